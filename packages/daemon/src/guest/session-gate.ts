import type { ExecSession } from "./exec-session.ts";

/**
 * Keeps a guest's sessions from ending while another one is being opened. Debian 12's dropbear (2022.83) closes a session that was opened and has no command yet when
 * the program of another one ends, and when the command then comes it ends the whole connection (its issue 321). The guest's side is init/gate.c: it answers once no
 * session is about to end.
 */
export class SessionGate {
  readonly #session: ExecSession;
  readonly #waiting: (() => void)[] = [];
  #closed: Promise<void> | undefined;

  /** `session` runs the guest's `gate`, and was opened while no other one could end. */
  constructor(session: ExecSession) {
    this.#session = session;
    session.stdout.on("data", (answers: Buffer) => {
      for (const _ of answers) this.#waiting.shift()?.();
    });
    session.stdin.on("error", () => {});
  }

  /** Resolves when no session ends any more until the gate is opened; never when the connection is lost. */
  close(): Promise<void> {
    this.#closed ??= new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#session.stdin.write("c");
    });
    return this.#closed;
  }

  /** Lets those end that wait for it. */
  open(): void {
    if (this.#closed) this.#session.stdin.write("o");
    this.#closed = undefined;
  }
}
