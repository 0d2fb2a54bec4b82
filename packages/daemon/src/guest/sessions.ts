/** Who is in a guest: programs run in it for somebody, its console, copies, and logs that are followed. */
export class Sessions {
  readonly #guests = new Map<string, { open: number; begun: number }>();

  /** Notes that a session began; returns what ends it, once. */
  begin(instanceId: string): () => void {
    const guest = this.#guests.get(instanceId) ?? { open: 0, begun: 0 };
    this.#guests.set(instanceId, guest);
    guest.open += 1;
    guest.begun += 1;
    let over = false;
    return () => {
      if (!over) guest.open -= 1;
      over = true;
    };
  }

  /** How many are open now, and how many there ever were since the daemon was started. */
  of(instanceId: string): { readonly open: number; readonly begun: number } {
    return this.#guests.get(instanceId) ?? { open: 0, begun: 0 };
  }

  /** Forgets an instance that is gone. */
  forget(instanceId: string): void {
    this.#guests.delete(instanceId);
  }
}
