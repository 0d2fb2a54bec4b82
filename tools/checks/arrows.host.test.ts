import { execFile } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { scratchDirectory } from "../../test/support/scratch.ts";
import { repositoryRoot } from "../support/parts.ts";

const configPath = join(repositoryRoot, ".dependency-cruiser.cjs");
const { forbidden } = createRequire(import.meta.url)(configPath) as { forbidden: readonly { name: string }[] };

interface Report {
  readonly summary: {
    readonly totalCruised: number;
    readonly violations: readonly { readonly from: string; readonly rule: { readonly name: string } }[];
  };
}

async function cruise(folder: string): Promise<Report> {
  const cruiser = join(repositoryRoot, "node_modules/dependency-cruiser/bin/dependency-cruiser.mjs");
  const args = [cruiser, "packages", "--config", configPath, "--output-type", "json"];
  // It exits with the number of errors found.
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: folder, maxBuffer: 64 << 20 }).catch(
    (error: { stdout: string }) => error,
  );
  return JSON.parse(stdout) as Report;
}

const daemon = "packages/daemon/src";

/** For each rule, a file and what it must not import: `name: [file, import]`. */
const planted: Record<string, readonly [string, string]> = {
  "arrows-core": [`${daemon}/core/p.ts`, "../store/target.ts"],
  "arrows-store": [`${daemon}/store/p.ts`, "../host/target.ts"],
  "arrows-host": [`${daemon}/host/p.ts`, "../store/target.ts"],
  "arrows-operations": [`${daemon}/operations/p.ts`, "../drivers/target.ts"],
  "arrows-drivers": [`${daemon}/drivers/p.ts`, "../network/target.ts"],
  "arrows-images": [`${daemon}/images/p.ts`, "../storage/target.ts"],
  "arrows-storage": [`${daemon}/storage/p.ts`, "../images/target.ts"],
  "arrows-archives": [`${daemon}/archives/p.ts`, "../storage/target.ts"],
  "arrows-guest": [`${daemon}/guest/p.ts`, "../drivers/target.ts"],
  "arrows-network": [`${daemon}/network/p.ts`, "../guest/target.ts"],
  "arrows-metadata": [`${daemon}/metadata/p.ts`, "../network/target.ts"],
  "arrows-identity": [`${daemon}/identity/p.ts`, "../workflows/target.ts"],
  "arrows-nodes": [`${daemon}/nodes/p.ts`, "../identity/target.ts"],
  "arrows-workflows": [`${daemon}/workflows/p.ts`, "../server/target.ts"],
  "arrows-controllers": [`${daemon}/controllers/p.ts`, "../server/target.ts"],
  "arrows-server": [`${daemon}/server/p.ts`, "../services/target.ts"],
  "arrows-services": [`${daemon}/services/p.ts`, "../main.ts"],
  "arrows-compat": [`${daemon}/compat/p.ts`, "../main.ts"],
  "no-cycles": [`${daemon}/store/one.ts`, "./two.ts"],
  resolved: [`${daemon}/main.ts`, "./nowhere.ts"],
  "api-alone": ["packages/api/src/p.ts", "../../cli/src/target.ts"],
  "api-no-node": ["packages/api/src/q.ts", "node:fs"],
  "clients-only-api": ["packages/cli/src/p.ts", `../../../${daemon}/core/target.ts`],
  "core-is-pure": [`${daemon}/core/q.ts`, "node:crypto"],
  "programs-through-host": [`${daemon}/images/q.ts`, "node:child_process"],
  "drivers-apart": [`${daemon}/drivers/qemu/p.ts`, "../fake/target.ts"],
  "drivers-by-map": [`${daemon}/p.ts`, "./drivers/fake/target.ts"],
  "no-tests-in-products": [`${daemon}/core/r.ts`, "./target.test.ts"],
};

test("a violation of each rule is caught, and named by that rule", async () => {
  const folder = await scratchDirectory("arrows");
  const rooms = Object.keys(planted).flatMap((name) => (name.startsWith("arrows-") ? name.slice(7) : []));
  const files: Record<string, string> = {
    [`${daemon}/store/two.ts`]: 'import "./one.ts";',
    [`${daemon}/core/target.test.ts`]: "",
    [`${daemon}/drivers/fake/target.ts`]: "",
    "packages/cli/src/target.ts": "",
    ...Object.fromEntries(rooms.map((room) => [`${daemon}/${room}/target.ts`, ""])),
    ...Object.fromEntries(Object.values(planted).map(([file, target]) => [file, `import "${target}";`])),
  };
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), text);
  }
  const { violations } = (await cruise(folder)).summary;
  const caught = (rule: string, file: string) => violations.some((one) => one.rule.name === rule && one.from === file);
  expect(forbidden.map(({ name }) => name).filter((name) => !caught(name, planted[name]?.[0] ?? ""))).toEqual([]);
});

test("the code itself is seen: a checker that finds no modules passes on nothing", async () => {
  const { totalCruised } = (await cruise(repositoryRoot)).summary;
  expect(totalCruised).toBeGreaterThan(100);
});
