/** Time, so that tests need not wait. Milliseconds. */

import { setTimeout as sleep } from "node:timers/promises";

export interface Clock {
  now(): number;
  sleep(milliseconds: number): Promise<void>;
}

export const realClock: Clock = {
  now: () => performance.now(),
  sleep: async (milliseconds) => {
    await sleep(milliseconds);
  },
};
