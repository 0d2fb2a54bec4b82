import ssh2 from "ssh2";
import { expect, it } from "vitest";
import { createKeys, formatKeys, parseKeys } from "./keys.ts";

it("makes keys that SSH software reads, fresh each time, and reads its own file", () => {
  const keys = createKeys();
  const client = ssh2.utils.parseKey(keys.clientKey);
  if (client instanceof Error) throw client;
  expect(`ssh-ed25519 ${client.getPublicSSH().toString("base64")}`).toBe(keys.clientPublicKey);
  const host = Buffer.from(keys.hostKey, "base64");
  expect(host.subarray(-32)).toEqual(Buffer.from(keys.hostPublicKey, "base64").subarray(-32));
  expect(createKeys()).not.toEqual(keys);
  expect(parseKeys(formatKeys(keys))).toEqual(keys);
  expect(() => parseKeys("{}")).toThrow();
});
