import { BerthError } from "@berth/api";
import type { Caller } from "../identity/authorize.ts";
import { hashToken, looksLikeToken } from "../identity/tokens.ts";

/** Finds out who sends a request, by its Authorization header. Throws `unauthenticated`, or rejects with it when the store had to be asked. */
export type Authenticate = (header: string | undefined) => Caller | Promise<Caller>;

const maxCached = 1000;

/**
 * Remembers a token that was found for `cacheMs`, so that most requests ask the store for nothing but what they want; a revoked token works for that
 * much longer. Unknown ones are not remembered, so a new one works at once. What is remembered is the header itself, in memory only: a look into
 * a hash table tells nothing of a wrong one by its time, and hashing it costs as much as all other checks together.
 */
export function authenticator(
  find: (hash: string) => Promise<Caller | undefined>,
  cacheMs: number,
  now: () => number = Date.now,
): Authenticate {
  const cache = new Map<string, { readonly caller: Caller; readonly until: number }>();

  const ask = async (header: string, token: string): Promise<Caller> => {
    cache.delete(header);
    const caller = await find(hashToken(token));
    if (!caller) throw new BerthError("unauthenticated", "The token is not known: mistyped, expired or revoked.");
    if (cache.size >= maxCached) cache.clear();
    cache.set(header, { caller, until: now() + cacheMs });
    return caller;
  };

  return (header) => {
    if (header === undefined) throw new BerthError("unauthenticated", "The request has no Authorization header.");
    const cached = cache.get(header);
    if (cached && cached.until > now()) return cached.caller;
    const token = tokenOf(header);
    if (!looksLikeToken(token)) {
      throw new BerthError("unauthenticated", "The token is not one of Berth's: it is cut off or mistyped.");
    }
    return ask(header, token);
  };
}

function tokenOf(header: string): string {
  const token = /^Bearer +(\S{1,200})$/i.exec(header)?.[1];
  if (token === undefined) {
    throw new BerthError("unauthenticated", "The Authorization header is not of the form: Bearer berth_…");
  }
  return token;
}
