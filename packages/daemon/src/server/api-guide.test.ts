import { readFileSync } from "node:fs";
import { afterAll, expect, test } from "vitest";
import { testServer } from "./testing/test-server.ts";

const guide = readFileSync(new URL("../../../../docs/api.md", import.meta.url), "utf8");
const server = testServer();
afterAll(() => server.app.close());

/** The curl commands of the guide, as requests. */
const commands = [...guide.matchAll(/```sh\n([\s\S]*?)```/g)]
  .flatMap(([, block = ""]) => block.replaceAll("\\\n", "").split("\n"))
  .filter((line) => line.startsWith("curl "))
  .map((line) => {
    // The words of a shell command: in quotes of either kind, or without.
    const words = [...line.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map(([, a, b, c]) => a ?? b ?? c ?? "");
    const after = (flag: string) => words.flatMap((word, i) => (word === flag ? [words[i + 1] ?? ""] : []));
    const headers = Object.fromEntries(after("-H").map((header) => header.split(/: (.*)/s).slice(0, 2)));
    const payload = after("-d")[0] ?? (after("--data-binary").length > 0 ? Buffer.alloc(1024) : undefined);
    const url = words.find((word) => word.startsWith("$BERTH_URL"))?.replace("$BERTH_URL", "") ?? "";
    return { method: after("-X")[0] ?? "GET", url, headers, payload, isEndless: words.includes("-N") };
  });

test("the guide has commands, and each of them works, in their order", async () => {
  expect(commands.length).toBeGreaterThan(7);
  const { services, send, token } = server;
  services.all.instances.clear();
  for (const { method, url, headers, payload, isEndless } of commands) {
    expect(headers.Authorization).toBe("Bearer $BERTH_TOKEN");
    const request = {
      method: method as "GET",
      url,
      headers: { ...headers, Authorization: `Bearer ${token}` },
      ...(payload ? { payload } : {}),
    };
    if (isEndless) {
      expect(server.app.hasRoute({ method: "GET", url: url.split("?")[0] ?? "" })).toBe(true);
      continue;
    }
    const answer = await send(request);
    expect([url, answer.statusCode < 300 ? "" : answer.body]).toEqual([url, ""]);
  }
});
