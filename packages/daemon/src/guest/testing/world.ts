import { eventually } from "../../../../../test/support/eventually.ts";
import type { GuestProcess } from "../config.ts";
import type { GuestMachine } from "./guest-machine.ts";

const end = "that is all";
const files = ["mountinfo", "status", "cgroup", "oom_score_adj", "limits"].map((name) => `/proc/1/${name}`).join(" ");
/** Lines of /proc/PID/status that are of the moment, not of the world. */
const passing = /^(Vm|Rss|Hugetlb|voluntary|nonvoluntary)/;

/** A process that says what world it stands in, and stays. */
export const worldTeller: Pick<GuestProcess, "argv"> = {
  argv: ["sh", "-c", `cat ${files}; ls -l /proc/1/fd; tty; id; echo ${end}; exec sleep 1000`],
};

/** What the process of a machine finds: mounts with their flags, descriptors, groups, limits, signals, terminal. Numbers that the kernel gives anew each time are left out. */
export async function worldOf(machine: GuestMachine): Promise<string[]> {
  const said = await eventually(async () => {
    const text = await machine.log("console");
    if (!text.includes(end)) throw new Error("it has not said all yet");
    return text;
  });
  return said
    .split(/\r?\n/)
    .filter((line) => !passing.test(line))
    .map((line) => line.replace(/^\d+ \d+ (\d+:\d+ )/, "$1").replace(/pipe:\[\d+\]/, "pipe"))
    .map((line) => line.replace(/^(.{10} .* 64) \w+ +\d+ [\d:]+ /, "$1 "))
    .sort();
}
