import { BerthError } from "@berth/api";
import type { Caller } from "../identity/authorize.ts";
import { hashToken, looksLikeToken } from "../identity/tokens.ts";

/** Finds out who sends a request, by its Authorization header. Throws `unauthenticated`, or rejects with it when the store had to be asked. */
export type Authenticate = (header: string | undefined) => Caller | Promise<Caller>;

export interface Authenticator {
  readonly authenticate: Authenticate;
  /** Forgets what is remembered: some tokens may do less from now on. */
  forget(): void;
}

const maxCached = 1000;

/**
 * Remembers a token that was found for `cacheMs`, so that most requests ask the store for nothing but what they want; a token that another daemon revoked, and of which
 * no word came, works for that much longer. Unknown ones are not remembered, so a new one works at once. What is remembered is the header itself, in memory only: a look
 * into a hash table tells nothing of a wrong one by its time, and hashing it costs as much as all other checks together.
 */
export function authenticator(
  find: (hash: string) => Promise<Caller | undefined>,
  cacheMs: number,
  now: () => number = Date.now,
): Authenticator {
  const cache = new Map<string, { readonly caller: Caller; readonly until: number }>();
  let forgotten = 0;

  const ask = async (header: string, token: string): Promise<Caller> => {
    cache.delete(header);
    const asked = forgotten;
    const caller = await find(hashToken(token));
    if (!caller) throw new BerthError("unauthenticated", "The token is not known: mistyped, expired or revoked.");
    if (cache.size >= maxCached) cache.clear();
    // What was found while others were forgotten may be of before that.
    if (asked === forgotten) {
      const until = Math.min(now() + cacheMs, caller.expiresAt ?? Number.POSITIVE_INFINITY);
      cache.set(header, { caller, until });
    }
    return caller;
  };

  return {
    authenticate: (header) => {
      if (header === undefined) throw new BerthError("unauthenticated", "The request has no Authorization header.");
      const cached = cache.get(header);
      if (cached && cached.until > now()) return cached.caller;
      const token = tokenOf(header);
      if (!looksLikeToken(token)) {
        throw new BerthError("unauthenticated", "The token is not one of Berth's: it is cut off or mistyped.");
      }
      return ask(header, token);
    },
    forget() {
      forgotten += 1;
      cache.clear();
    },
  };
}

function tokenOf(header: string): string {
  const token = /^Bearer +(\S{1,200})$/i.exec(header)?.[1];
  if (token === undefined) {
    throw new BerthError("unauthenticated", "The Authorization header is not of the form: Bearer berth_…");
  }
  return token;
}
