import { type ProjectQuota, type QuotaName, quotaNames } from "@berth/api";
import { mebibytes } from "./text.ts";

const words: Readonly<Record<QuotaName, string>> = {
  instances: "Instances",
  cpus: "CPUs",
  memoryMib: "Memory",
  diskMib: "Disks",
  ports: "Ports",
  images: "Images",
};

/** What a project has, and may have, one line for each. */
export function describeQuota({ limits, used }: ProjectQuota): [string, string][] {
  return quotaNames.map((name) => {
    const write = (amount: number) => (name.endsWith("Mib") ? mebibytes(amount) : String(amount));
    const limit = limits[name];
    return [words[name], `${write(used[name])}${limit === null ? "" : ` of ${write(limit)}`}`];
  });
}
