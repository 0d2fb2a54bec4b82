import { z } from "zod";
import type { Credentials } from "./registry.ts";

const AuthEntry = z.object({
  /** `user:password` in base64. */
  auth: z.string().optional(),
  username: z.string().optional(),
  password: z.string().optional(),
});
type AuthEntry = z.infer<typeof AuthEntry>;
/** What is read of docker's config.json, which podman and buildah read and write as well (containers-auth.json(5)). */
const AuthFile = z.object({ auths: z.record(z.string(), AuthEntry).default({}) });
/** Docker Hub's names, by which docker login and people call it. */
const dockerHub: ReadonlySet<string> = new Set(["docker.io", "index.docker.io", "registry-1.docker.io"]);

/**
 * Reads who to be at which registry, by the registry's name as references have it. Throws an Error that names the entry, and never what is in it, for one without a user and a
 * password, as of credential helpers.
 */
export function parseRegistryAuth(text: string): (registry: string) => Credentials | undefined {
  const byRegistry = new Map<string, Credentials>();
  for (const [key, entry] of Object.entries(readAuthFile(text))) {
    const [, name = "", path] = /^(?:https?:\/\/)?([^/]+)(?:\/(.*))?$/.exec(key.toLowerCase()) ?? [];
    // Docker's own keys may end in a version of the protocol: https://index.docker.io/v1/.
    if (name === "" || !/^(?:v[12]\/?)?$/.test(path ?? "")) throw new Error(`${key} is not a registry`);
    const credentials = credentialsOf(entry);
    if (!credentials) throw new Error(`${key} has no user and password; credential helpers are not asked`);
    byRegistry.set(dockerHub.has(name) ? "docker.io" : name, credentials);
  }
  return (registry) => byRegistry.get(registry.toLowerCase());
}

function credentialsOf({ auth, username, password }: AuthEntry): Credentials | undefined {
  if (!auth) return username && password ? { username, password } : undefined;
  const [, user, secret] = /^([^:]+):(.+)$/s.exec(Buffer.from(auth, "base64").toString("utf8")) ?? [];
  return user && secret ? { username: user, password: secret } : undefined;
}

function readAuthFile(text: string): Readonly<Record<string, AuthEntry>> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The parser's words may quote a secret.
    throw new Error("it is not JSON");
  }
  const parsed = AuthFile.safeParse(value);
  if (!parsed.success)
    throw new Error(`${parsed.error.issues[0]?.path.join(".")} is not as docker's config.json has it`);
  return parsed.data.auths;
}
