import type { IncomingHttpHeaders } from "node:http";
import { BerthError } from "@berth/api";
import type { Caller } from "../identity/authorize.ts";
import { hashToken, looksLikeToken } from "../identity/tokens.ts";
import type { SessionCookie } from "./session-cookie.ts";

/** Finds out who sends a request, by its headers. Throws `unauthenticated`, or rejects with it when the store had to be asked. */
export type Authenticate = (headers: IncomingHttpHeaders) => Caller | Promise<Caller>;

/** Who tells whose a secret is, by its SHA-256 in hex; undefined for nobody's. */
export interface Callers {
  ofToken(hash: string): Promise<Caller | undefined>;
  ofSession(hash: string): Promise<Caller | undefined>;
  /** By the access token itself. */
  ofAccessToken(token: string): Promise<Caller | undefined>;
}

export interface Authenticator {
  readonly authenticate: Authenticate;
  /** Forgets what is remembered: some tokens may do less from now on. */
  forget(): void;
}

const maxCached = 1000;

/**
 * Remembers who was found for `cacheMs`, so that most requests ask the store for nothing but what they want; a token that another daemon revoked, and of which
 * no word came, works for that much longer. Unknown ones are not remembered, so a new one works at once. What is remembered is the header itself, in memory only: a look
 * into a hash table tells nothing of a wrong one by its time, and hashing it costs as much as all other checks together. A token goes before a session's cookie.
 */
export function authenticator(
  callers: Callers,
  cookie: SessionCookie,
  cacheMs: number,
  now: () => number = Date.now,
): Authenticator {
  const cache = new Map<string, { readonly caller: Caller; readonly until: number }>();
  let forgotten = 0;

  const ask = async (shown: string, find: Promise<Caller | undefined>, refusal: string): Promise<Caller> => {
    cache.delete(shown);
    const asked = forgotten;
    const caller = await find;
    if (!caller) throw new BerthError("unauthenticated", refusal);
    if (cache.size >= maxCached) cache.clear();
    // What was found while others were forgotten may be of before that.
    if (asked === forgotten) {
      const until = Math.min(now() + cacheMs, caller.expiresAt ?? Number.POSITIVE_INFINITY);
      cache.set(shown, { caller, until });
    }
    return caller;
  };

  return {
    authenticate: (headers) => {
      const shown = headers.authorization ?? cookie.read(headers);
      if (shown === undefined)
        throw new BerthError("unauthenticated", "The request has neither an Authorization header nor a session.");
      const cached = cache.get(shown);
      if (cached && cached.until > now()) return cached.caller;
      if (headers.authorization === undefined) {
        if (!looksLikeToken(shown, "session")) throw new BerthError("unauthenticated", sessionOver);
        return ask(shown, callers.ofSession(hashToken(shown)), sessionOver);
      }
      const token = tokenOf(shown);
      if (looksLikeJwt(token))
        return ask(shown, callers.ofAccessToken(token), "The access token is not valid: changed, expired or revoked.");
      if (!looksLikeToken(token)) {
        throw new BerthError("unauthenticated", "The token is not one of Berth's: it is cut off or mistyped.");
      }
      return ask(shown, callers.ofToken(hashToken(token)), "The token is not known: mistyped, expired or revoked.");
    },
    forget() {
      forgotten += 1;
      cache.clear();
    },
  };
}

const sessionOver = "The session is over: log in again.";

function looksLikeJwt(text: string): boolean {
  return /^eyJ[\w-]+\.[\w-]+\.[\w-]+$/.test(text);
}

function tokenOf(header: string): string {
  const token = /^Bearer +(\S{1,4000})$/i.exec(header)?.[1];
  if (token === undefined) {
    throw new BerthError("unauthenticated", "The Authorization header is not of the form: Bearer berth_…");
  }
  return token;
}
