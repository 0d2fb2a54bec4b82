import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Host } from "../../host/host.ts";

/** Debian's docker-registry on loopback. */
export interface DockerRegistry extends AsyncDisposable {
  /** `127.0.0.1:port`. */
  readonly host: string;
}

/** Starts a registry that keeps its content in `directory`; resolves once it answers. */
export async function startDockerRegistry(host: Host, directory: string, port: number): Promise<DockerRegistry> {
  const address = `127.0.0.1:${port}`;
  const config = join(directory, "registry.json");
  await mkdir(directory, { recursive: true });
  // JSON is YAML.
  await writeFile(
    config,
    JSON.stringify({
      version: 0.1,
      log: { level: "error" },
      storage: { filesystem: { rootdirectory: join(directory, "content") } },
      http: { addr: address },
    }),
  );
  const program = host.start("docker-registry", ["serve", config], { timeoutMs: 60 * 60_000 });
  program.stdout.resume();
  let ended = false;
  const done = program.done.then(
    () => {},
    () => {},
  );
  void done.then(() => {
    ended = true;
  });
  while (!(await answers(`http://${address}/v2/`))) {
    if (ended) throw new Error("docker-registry ended before it answered");
  }
  return {
    host: address,
    async [Symbol.asyncDispose]() {
      if (!ended) process.kill(program.pid, "SIGTERM");
      await done;
    },
  };
}

async function answers(url: string): Promise<boolean> {
  try {
    const answer = await fetch(url);
    await answer.body?.cancel();
    return answer.ok;
  } catch {
    return false;
  }
}
