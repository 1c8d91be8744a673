import { deadline } from '../../clock.ts'

/** How long an operation waits for the lock of another connection to the SQLite database. */
export const MAX_WAIT_MS = 5000
/** From one try to the next: SQLite's own schedule, which is short at first because most locks are. */
const WAITS_MS = [1, 2, 5, 10, 15, 20, 25, 25, 25, 50] as const

/**
 * Does `work` when no other connection has the database locked. `work` has done nothing when it throws SQLITE_BUSY. Between
 * two tries the event loop runs: the lock may belong to a transaction of this very process, which needs it to end.
 */
export async function whenFree<T>(work: () => T | Promise<T>): Promise<T> {
  const isOver = deadline(MAX_WAIT_MS)
  for (let attempt = 0; ; attempt++) {
    try {
      return await work()
    } catch (error) {
      if (!isBusy(error) || isOver()) throw error
    }
    await pause(attempt)
  }
}

export function pause(attempt: number): Promise<void> {
  const milliseconds = WAITS_MS[Math.min(attempt, WAITS_MS.length - 1)]
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}

/** SQLITE_BUSY and its extended codes, whose lowest byte is 5: as a text or a number, by driver. */
export function isBusy(error: unknown): boolean {
  const { code, errcode, rawCode } = error as { code?: unknown; errcode?: unknown; rawCode?: unknown }
  const number = typeof errcode === 'number' ? errcode : rawCode
  return String(code).startsWith('SQLITE_BUSY') || (typeof number === 'number' && (number & 0xff) === 5)
}
