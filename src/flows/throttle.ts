import { createHash } from 'node:crypto'
import type { UnixSeconds } from '../clock.ts'
import type { Rate } from '../policy.ts'
import type { TotpStore } from '../store/store.ts'

/** Counts calls. Throws when it cannot; the call is refused then. */
export interface Throttle {
  /** Counts one call and tells whether it is within the rate, and in how many seconds (at least 1) counting restarts. */
  count(key: string, rate: Rate, now: UnixSeconds): Promise<{ allowed: boolean; resetSeconds: number }>
}

/**
 * Counts calls in the store, together with all processes that share it. Keys are digested on the way: the store learns
 * no address.
 */
export function storeThrottle(store: TotpStore): Throttle {
  return {
    async count(key, { limit, windowSeconds }, now) {
      const keyDigest = createHash('sha256').update(key).digest('base64url')
      const { calls, endsAt } = await store.countCall({ keyDigest, windowSeconds, now })
      return { allowed: calls <= limit, resetSeconds: Math.max(1, endsAt - now) }
    },
  }
}

/** Keys counted at once: some 20 MB. */
const MAX_KEYS = 100_000

/** Counts calls in this process's memory, in windows that begin with a caller's first call. */
export function memoryThrottle(): Throttle {
  const windows = new Map<string, { count: number; endsAt: UnixSeconds }>()
  return {
    async count(key, { limit, windowSeconds }, now) {
      let window = windows.get(key)
      if (window === undefined || window.endsAt <= now || window.endsAt > now + windowSeconds) {
        // Put back at the end, so that the map's first keys are the windows that began first.
        windows.delete(key)
        window = { count: 0, endsAt: now + windowSeconds }
        windows.set(key, window)
        if (windows.size > MAX_KEYS) forget(windows)
      }
      window.count++
      return { allowed: window.count <= limit, resetSeconds: Math.max(1, window.endsAt - now) }
    },
  }
}

/** Drops the window that began first: the memory stays bounded under a flood of addresses. */
function forget(windows: Map<string, unknown>): void {
  const [oldest] = windows.keys()
  if (oldest !== undefined) windows.delete(oldest)
}
