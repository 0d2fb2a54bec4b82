import { BerthError } from "@berth/api";
import type { Caller } from "../identity/authorize.ts";
import { hashToken, looksLikeToken } from "../identity/tokens.ts";

/** Finds out who sends a request, by its Authorization header. Throws `unauthenticated`, or rejects with it when the store had to be asked. */
export type Authenticate = (header: string | undefined) => Caller | Promise<Caller>;

const maxCached = 1000;

/**
 * Remembers a token that was found for `cacheMs`, so that most requests ask the store for nothing but what they want; a revoked token works for that
 * much longer. Unknown ones are not remembered, so a new one works at once.
 */
export function authenticator(
  find: (hash: string) => Promise<Caller | undefined>,
  cacheMs: number,
  now: () => number = Date.now,
): Authenticate {
  const cache = new Map<string, { readonly caller: Caller; readonly until: number }>();

  const ask = async (hash: string): Promise<Caller> => {
    cache.delete(hash);
    const caller = await find(hash);
    if (!caller) throw new BerthError("unauthenticated", "The token is not known: mistyped, expired or revoked.");
    if (cache.size >= maxCached) cache.clear();
    cache.set(hash, { caller, until: now() + cacheMs });
    return caller;
  };

  return (header) => {
    const token = tokenOf(header);
    const hash = hashToken(token);
    const cached = cache.get(hash);
    if (cached && cached.until > now()) return cached.caller;
    if (!looksLikeToken(token)) {
      throw new BerthError("unauthenticated", "The token is not one of Berth's: it is cut off or mistyped.");
    }
    return ask(hash);
  };
}

function tokenOf(header: string | undefined): string {
  if (header === undefined) throw new BerthError("unauthenticated", "The request has no Authorization header.");
  const token = /^Bearer +(\S{1,200})$/i.exec(header)?.[1];
  if (token === undefined) {
    throw new BerthError("unauthenticated", "The Authorization header is not of the form: Bearer berth_…");
  }
  return token;
}
