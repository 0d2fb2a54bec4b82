import { expect, test } from "vitest";
import { namespaceLauncher } from "./namespace-launcher.ts";

const files = { ifProgram: "/lib/if", rulesPath: "/d/guests.nft", resolvConfPath: "/d/resolv.conf" };

test("publishes each port on its own inner one, by protocol", () => {
  const args = namespaceLauncher(
    [
      { hostAddress: "127.0.0.1", hostPort: 8080, guestPort: 80, protocol: "tcp" },
      { hostAddress: "0.0.0.0", hostPort: 8080, guestPort: 53, protocol: "udp" },
      { hostAddress: "0.0.0.0", hostPort: 9090, guestPort: 90, protocol: "tcp" },
    ],
    files,
  );
  expect(args.join(" ")).toContain(
    "--tcp-ports 127.0.0.1/8080:10000 --tcp-ports 0.0.0.0/9090:10002 --udp-ports 0.0.0.0/8080:10001",
  );
});

test("publishes nothing, and nothing of the host, when nothing is asked for", () => {
  const args = namespaceLauncher([], files).join(" ");
  expect(args).toContain("--tcp-ports none --udp-ports none --tcp-ns none --udp-ns none");
  expect(args).toContain("--no-map-gw");
});

test("goes on to the hypervisor only when the rules are in place, and without capabilities", () => {
  const args = namespaceLauncher([], files);
  const end = args.slice(args.lastIndexOf("/lib/if"));
  expect(end).toEqual([
    ...["/lib/if", " nft", " -f", " /d/guests.nft", ""],
    ...["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--"],
  ]);
});
