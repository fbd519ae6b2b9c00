/** One call on its way and one that waits: a newer one takes the place of that, which comes to nothing. */
export class Latest {
  #turn = 0;
  #running: Promise<unknown> = Promise.resolve();

  /** What the work gives; null when a newer one has come, before it began or while it ran. */
  async run<T>(work: () => Promise<T>): Promise<T | null> {
    const turn = ++this.#turn;
    await this.#running;
    if (turn !== this.#turn) return null;
    const running = work();
    this.#running = running.catch(() => undefined);
    try {
      const value = await running;
      return turn === this.#turn ? value : null;
    } catch (error) {
      if (turn === this.#turn) throw error;
      return null;
    }
  }

  /** Nobody wants what runs or waits; what comes next need not wait for it. */
  drop(): void {
    this.#turn++;
    this.#running = Promise.resolve();
  }
}
