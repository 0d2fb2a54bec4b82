import type { Driver, Handle } from "../../driver.ts";

/** What the running guest says its boot is called, on its control port. */
export async function askBootId(driver: Driver, handle: Handle): Promise<string> {
  const control = await driver.openPort?.(handle, "control", AbortSignal.timeout(10_000));
  if (!control) throw new Error("The driver leads to no guests");
  control.write('{"command":"hello"}\n');
  let heard = "";
  for await (const chunk of control) {
    heard += chunk;
    const bootId = /"fact":"hello".*"bootId":"([^"]+)"/.exec(heard)?.[1];
    if (bootId) return bootId;
  }
  throw new Error("The guest's control port was closed");
}
