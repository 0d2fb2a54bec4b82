import { hostPackages } from "./packages.mjs";
import { findProgram, isThere, lastLines, run } from "./programs.mjs";
import { phase, SetupError } from "./progress.mjs";

/**
 * Installs what a command needs of the host's packages and is not there; says what is missing when it cannot.
 * @param {string} command
 */
export async function ensureHostPackages(command) {
  const missing = missingPackages(command, (item) => (item.startsWith("/") ? isThere(item) : !!findProgram(item)));
  if (missing.length === 0) return;
  const names = missing.map((one) => one.name);
  const obstacle = await obstacleToInstalling();
  if (obstacle) throw new SetupError(explain(command, missing, obstacle));
  await phase(`Debian packages: ${names.join(" ")}`, async () => {
    const services = missing.flatMap((one) => one.service ?? []);
    const { code, output } = await asRoot(["sh", "-c", installScript, "sh", services.join(" "), ...names]);
    if (code !== 0)
      throw new SetupError(explain(command, missing, `apt-get could not install them:\n${lastLines(output)}`));
  });
}

/**
 * The packages a command needs of which something is not there.
 * @param {string} command
 * @param {(item: string) => boolean} has
 */
export function missingPackages(command, has) {
  return hostPackages.filter((one) => one.for.some((name) => name === command) && !one.has.every(has));
}

/** Why packages cannot be installed from here; undefined when they can. */
async function obstacleToInstalling() {
  if (!findProgram("apt-get")) return "This is no Debian (there is no apt-get), so they must be installed by hand.";
  if (process.getuid?.() === 0) return undefined;
  if (!findProgram("sudo")) return "Installing them takes root, and there is no sudo.";
  if ((await run("sudo", ["-n", "true"])).code === 0 || process.stdin.isTTY) return undefined;
  return "Installing them takes root: sudo asks for a password, and there is no terminal to ask on.";
}

/** @param {string[]} words */
function asRoot(words) {
  const [program = "", ...args] = process.getuid?.() === 0 ? words : ["sudo", ...words];
  return run(program, args, { input: "inherit" });
}

/**
 * @param {string} command
 * @param {readonly import("./packages.mjs").HostPackage[]} missing
 * @param {string} obstacle
 */
export function explain(command, missing, obstacle) {
  const width = Math.max(...missing.map((one) => one.name.length));
  return [
    `npm ${command === "bench" ? "run bench" : command} needs host packages that are not there:`,
    ...missing.map((one) => `  ${one.name.padEnd(width)}  ${one.why}`),
    obstacle,
    "On Debian or Ubuntu, as root:",
    `  apt-get update && apt-get install --no-install-recommends ${missing.map((one) => one.name).join(" ")}`,
  ].join("\n");
}

/**
 * Run as root in one go, so that sudo asks once. While it runs, Debian's own switch (policy-rc.d) keeps packages from starting their services; the switch
 * asks whether this very shell still lives, so even one left behind by a power cut changes nothing, and it goes with the shell. Package lists are fetched only when a package is unknown or
 * its file is no longer where the lists say.
 */
const installScript = `
set -eu
export DEBIAN_FRONTEND=noninteractive
services=$1; shift
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  trap 'exit 1' HUP INT TERM
  printf '#!/bin/sh\\n# Berth is installing packages and wants no services started; without effect afterwards.\\nkill -0 %s 2>/dev/null && exit 101\\nexit 0\\n' $$ > "$policy"
  chmod 755 "$policy"
fi
install() { apt-get install --yes --quiet --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"; }
if ! apt-cache show "$@" >/dev/null 2>&1 || ! install "$@"; then
  apt-get update --quiet
  install "$@"
fi
if [ -n "$services" ] && [ -d /run/systemd/system ]; then systemctl disable --quiet $services || true; fi
`;
