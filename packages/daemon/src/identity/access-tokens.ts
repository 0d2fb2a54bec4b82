import type { CryptoKey } from "jose";
import { z } from "zod";

/** Loaded when the first access token is seen: many installations never see one. */
const loadJose = () => import("jose");

/** How long an access token is good for, in milliseconds. It is also refused as soon as what it was issued for ends. */
export const accessTokenMs = 10 * 60_000;
/** How long a key signs, and how much longer it verifies. */
const signsMs = 24 * 3_600_000;
const verifiesMs = signsMs + 2 * accessTokenMs;

/** The only algorithm there is: what a token says of it is compared, never followed. */
const algorithm = "EdDSA";
const type = "at+jwt";

/** What an access token says (RFC 9068). */
const Claims = z.object({
  sub: z.string(),
  /** The grant it was issued for; a token's own client credentials have none. */
  grant: z.string().nullable(),
  scope: z.string().nullable(),
  exp: z.number(),
});

export interface AccessClaims {
  /** The id of the user or the token. */
  readonly subject: string;
  readonly grant: string | null;
  readonly scopes: readonly string[] | null;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
}

/** A key by which access tokens are verified: its JWK (RFC 7517) as JSON. */
interface PublicKey {
  readonly id: string;
  readonly publicKey: string;
}

/** Where public keys are kept for all who verify. */
export interface KeyStore {
  save(key: PublicKey, lifetimeMs: number): Promise<void>;
  list(): Promise<readonly PublicKey[]>;
}

/**
 * Issues and verifies access tokens. The private key is made by this process, lives in its memory alone and signs for a day; public keys are shared, so that each berthd
 * of a store verifies what the others issued.
 */
export class AccessTokens {
  readonly #issuer: string;
  readonly #keys: KeyStore;
  readonly #now: () => number;
  readonly #known = new Map<string, CryptoKey>();
  #signing:
    | { readonly made: Promise<{ readonly id: string; readonly key: CryptoKey }>; readonly until: number }
    | undefined;

  constructor(issuer: string, keys: KeyStore, now: () => number = Date.now) {
    this.#issuer = issuer;
    this.#keys = keys;
    this.#now = now;
  }

  async issue({ subject, grant, scopes }: Omit<AccessClaims, "expiresAt">): Promise<string> {
    const { SignJWT } = await loadJose();
    const { id, key } = await this.#signingKey();
    const issuedAt = Math.floor(this.#now() / 1000);
    return new SignJWT({ grant, scope: scopes === null ? null : scopes.join(" ") })
      .setProtectedHeader({ alg: algorithm, kid: id, typ: type })
      .setIssuer(this.#issuer)
      .setAudience(this.#issuer)
      .setSubject(subject)
      .setJti(crypto.randomUUID())
      .setIssuedAt(issuedAt)
      .setExpirationTime(issuedAt + accessTokenMs / 1000)
      .sign(key);
  }

  /** What a token says; undefined when it was not issued here, was changed, or has expired. */
  async verify(token: string): Promise<AccessClaims | undefined> {
    const { errors, jwtVerify } = await loadJose();
    try {
      const { payload } = await jwtVerify(token, ({ kid }) => this.#verifyingKey(kid), {
        algorithms: [algorithm],
        typ: type,
        issuer: this.#issuer,
        audience: this.#issuer,
        currentDate: new Date(this.#now()),
        requiredClaims: ["exp", "sub"],
      });
      const { sub, grant, scope, exp } = Claims.parse(payload);
      return { subject: sub, grant, scopes: scope === null ? null : scope.split(" "), expiresAt: exp * 1000 };
    } catch (error) {
      // A store that does not answer says nothing of the token.
      if (error instanceof errors.JOSEError || error instanceof z.ZodError) return undefined;
      throw error;
    }
  }

  /** The keys that verify, of every berthd of the store, as JWKs. */
  async publicKeys(): Promise<readonly Readonly<Record<string, string>>[]> {
    return (await this.#keys.list()).map(({ publicKey }) => JSON.parse(publicKey) as Record<string, string>);
  }

  /** Made once for all who ask meanwhile; one that could not be made is made anew. */
  #signingKey() {
    const current = this.#signing;
    if (current && current.until > this.#now()) return current.made;
    const made = this.#makeKey();
    this.#signing = { made, until: this.#now() + signsMs };
    made.catch(() => {
      if (this.#signing?.made === made) this.#signing = undefined;
    });
    return made;
  }

  async #makeKey() {
    const { calculateJwkThumbprint, exportJWK, generateKeyPair } = await loadJose();
    const { publicKey, privateKey } = await generateKeyPair(algorithm, { crv: "Ed25519" });
    const jwk = await exportJWK(publicKey);
    const id = await calculateJwkThumbprint(jwk);
    const text = JSON.stringify({ ...jwk, kid: id, alg: algorithm, use: "sig" });
    await this.#keys.save({ id, publicKey: text }, verifiesMs);
    return { id, key: privateKey };
  }

  async #verifyingKey(kid: string | undefined): Promise<CryptoKey> {
    const known = this.#known.get(kid ?? "");
    if (known) return known;
    const { errors, importJWK } = await loadJose();
    this.#known.clear();
    for (const { id, publicKey } of await this.#keys.list())
      this.#known.set(id, (await importJWK(JSON.parse(publicKey), algorithm)) as CryptoKey);
    const found = this.#known.get(kid ?? "");
    if (!found) throw new errors.JWKSNoMatchingKey();
    return found;
  }
}
