import { describe, expect, test } from 'vitest'
import { memoryThrottle, type Throttle } from './throttle.ts'

const NOON = 1_800_000_000
const rate = { limit: 3, windowSeconds: 60 }

/** How many of so many calls are allowed. */
async function allowed(throttle: Throttle, key: string, calls: number, at: number): Promise<number> {
  let count = 0
  for (let n = 0; n < calls; n++) if ((await throttle.count(key, rate, at)).allowed) count++
  return count
}

describe('the throttle in memory', () => {
  test('allows as many calls as the rate says, and tells when counting begins anew', async () => {
    const throttle = memoryThrottle()
    for (const [at, answer] of [
      [NOON, { allowed: true, resetSeconds: 60 }],
      [NOON + 10, { allowed: true, resetSeconds: 50 }],
      [NOON + 20, { allowed: true, resetSeconds: 40 }],
      [NOON + 20, { allowed: false, resetSeconds: 40 }],
      [NOON + 59, { allowed: false, resetSeconds: 1 }],
      [NOON + 60, { allowed: true, resetSeconds: 60 }],
    ] as const) {
      expect(await throttle.count('a', rate, at)).toEqual(answer)
    }
  })

  test('counts every key by itself', async () => {
    const throttle = memoryThrottle()
    expect(await allowed(throttle, 'a', 5, NOON)).toBe(3)
    expect(await allowed(throttle, 'b', 5, NOON)).toBe(3)
    expect(await allowed(throttle, '__proto__', 5, NOON)).toBe(3)
  })

  test('counts calls at once one by one', async () => {
    const throttle = memoryThrottle()
    const answers = await Promise.all(Array.from({ length: 20 }, () => throttle.count('a', rate, NOON)))
    expect(answers.filter((answer) => answer.allowed)).toHaveLength(3)
  })

  test('does not shut a caller out for longer than a window when the clock is set back', async () => {
    const throttle = memoryThrottle()
    await allowed(throttle, 'a', 5, NOON)
    expect(await throttle.count('a', rate, NOON - 86_400)).toEqual({ allowed: true, resetSeconds: 60 })
  })

  test('two throttles know nothing of each other', async () => {
    await allowed(memoryThrottle(), 'a', 5, NOON)
    expect(await allowed(memoryThrottle(), 'a', 5, NOON)).toBe(3)
  })

  test('forgets the windows that began first when a flood of callers comes: its memory is bounded', async () => {
    const throttle = memoryThrottle()
    await allowed(throttle, 'first', 3, NOON)
    for (let n = 0; n < 99_998; n++) await throttle.count(`flood ${n}`, rate, NOON + 1)
    await allowed(throttle, 'last', 3, NOON + 1)
    // A hundred thousand are remembered …
    expect(await allowed(throttle, 'first', 1, NOON + 1)).toBe(0)
    // … and one more costs the oldest its place.
    await throttle.count('one more', rate, NOON + 1)
    expect(await allowed(throttle, 'first', 1, NOON + 1)).toBe(1)
    expect(await allowed(throttle, 'last', 1, NOON + 1)).toBe(0)
  })
})
