import { createPrivateKey, generateKeyPairSync, randomBytes } from "node:crypto";
import { z } from "zod";

const type = Buffer.from("ssh-ed25519");

/** The SSH keys of one instance's channel. Private: kept in the instance's folder, readable by its owner only. */
export interface InstanceKeys {
  /** The guest's private key in dropbear's format, base64. */
  readonly hostKey: string;
  /** The guest's public key as SSH sends it, base64: what the host expects. */
  readonly hostPublicKey: string;
  /** The host's private key, OpenSSH format. */
  readonly clientKey: string;
  /** The line that lets the host in: `ssh-ed25519 …`. */
  readonly clientPublicKey: string;
}

const InstanceKeysSchema = z.object({
  hostKey: z.string(),
  hostPublicKey: z.string(),
  clientKey: z.string(),
  clientPublicKey: z.string(),
});

/** Fresh keys for one instance, never shared with another. */
export function createKeys(): InstanceKeys {
  const host = createPair();
  const client = createPair();
  return {
    hostKey: Buffer.concat([field(type), field(host.secret)]).toString("base64"),
    hostPublicKey: publicBlob(host).toString("base64"),
    clientKey: openSshKey(client),
    clientPublicKey: `${type} ${publicBlob(client).toString("base64")}`,
  };
}

/** The keys as they are kept in a file. */
export function formatKeys(keys: InstanceKeys): string {
  return `${JSON.stringify(keys)}\n`;
}

/** Reads what formatKeys wrote. Throws when it is something else. */
export function parseKeys(text: string): InstanceKeys {
  return InstanceKeysSchema.parse(JSON.parse(text));
}

interface KeyPair {
  /** The seed and the public key, 32 bytes each: how SSH software keeps an Ed25519 key. */
  readonly secret: Buffer;
  readonly publicKey: Buffer;
}

function createPair(): KeyPair {
  const { privateKey } = generateKeyPairSync("ed25519", {
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
    publicKeyEncoding: { type: "spki", format: "pem" },
  });
  const { d, x } = createPrivateKey(privateKey).export({ format: "jwk" });
  const publicKey = Buffer.from(x ?? "", "base64url");
  return { secret: Buffer.concat([Buffer.from(d ?? "", "base64url"), publicKey]), publicKey };
}

/** Bytes with their length in front: SSH's `string` (RFC 4251, section 5). */
function field(bytes: Uint8Array): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

function publicBlob({ publicKey }: KeyPair): Buffer {
  return Buffer.concat([field(type), field(publicKey)]);
}

/** The private key in OpenSSH's own format, without a passphrase (openssh-portable, PROTOCOL.key). */
function openSshKey(pair: KeyPair): string {
  const check = randomBytes(4);
  const none = field(Buffer.from("none"));
  const secrets = Buffer.concat([check, check, publicBlob(pair), field(pair.secret), field(Buffer.alloc(0))]);
  const padding = Buffer.from(Array.from({ length: (8 - (secrets.length % 8)) % 8 }, (_, at) => at + 1));
  const body = Buffer.concat([
    Buffer.from("openssh-key-v1\0"),
    none,
    none,
    field(Buffer.alloc(0)),
    Buffer.from([0, 0, 0, 1]),
    field(publicBlob(pair)),
    field(Buffer.concat([secrets, padding])),
  ]);
  const lines = body.toString("base64").match(/.{1,70}/g) ?? [];
  return ["-----BEGIN OPENSSH PRIVATE KEY-----", ...lines, "-----END OPENSSH PRIVATE KEY-----", ""].join("\n");
}
