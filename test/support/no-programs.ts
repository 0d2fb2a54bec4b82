import childProcess from "node:child_process";
import { syncBuiltinESMExports } from "node:module";

/** Unit tests are pure and fast: one that runs a program fails here and belongs into a `*.host.test.ts`. */
for (const name of ["spawn", "spawnSync", "exec", "execSync", "execFile", "execFileSync", "fork"] as const) {
  const refuse = (program: unknown) => {
    throw new Error(`A unit test ran a program (${name} of ${String(program)}); put it into a *.host.test.ts.`);
  };
  childProcess[name] = refuse as never;
}
syncBuiltinESMExports();
