import type { Clock, UnixSeconds } from '../clock.ts'

/** A clock that stands until it is moved. */
export interface FakeClock {
  /** The time at which it stands: the option `clock` of `createTotp`. */
  now: Clock
  /** Moves on by so many seconds; a negative number sets the clock back. */
  advance(seconds: number): void
}

/** @param start - where the clock stands at first */
export function fakeClock(start: UnixSeconds): FakeClock {
  let at = start
  return {
    now: () => at,
    advance(seconds) {
      at += seconds
    },
  }
}
