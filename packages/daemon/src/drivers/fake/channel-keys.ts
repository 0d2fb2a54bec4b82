import { randomBytes } from "node:crypto";

/**
 * Turns a private Ed25519 key as dropbear keeps it (the type's name and 64 bytes, secret and public half, each with its length in front) into the PEM form
 * that OpenSSH and ssh2 read (openssh-portable, PROTOCOL.key).
 */
export function openSshKey(dropbear: Buffer): string {
  const name = readString(dropbear, 0);
  const halves = readString(dropbear, 4 + name.length);
  if (name.toString() !== "ssh-ed25519" || halves.length !== 64)
    throw new Error("not an Ed25519 key in dropbear's form");
  const publicHalf = halves.subarray(32);
  const check = randomBytes(4);
  const secret = Buffer.concat([
    check,
    check,
    string(name),
    string(publicHalf),
    string(halves),
    string(Buffer.from("berth")),
  ]);
  const padding = Buffer.from(Array.from({ length: (8 - (secret.length % 8)) % 8 }, (_, at) => at + 1));
  const none = string(Buffer.from("none"));
  const blob = Buffer.concat([
    Buffer.from("openssh-key-v1\0"),
    none,
    none,
    string(Buffer.alloc(0)),
    Buffer.from([0, 0, 0, 1]),
    string(Buffer.concat([string(name), string(publicHalf)])),
    string(Buffer.concat([secret, padding])),
  ]);
  const lines = blob.toString("base64").match(/.{1,70}/g) ?? [];
  return ["-----BEGIN OPENSSH PRIVATE KEY-----", ...lines, "-----END OPENSSH PRIVATE KEY-----", ""].join("\n");
}

function readString(bytes: Buffer, at: number): Buffer {
  const length = bytes.readUInt32BE(at);
  return bytes.subarray(at + 4, at + 4 + length);
}

function string(content: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(content.length);
  return Buffer.concat([length, content]);
}
