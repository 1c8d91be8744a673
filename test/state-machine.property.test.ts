import assert from 'node:assert/strict'
import fc from 'fast-check'
import { test } from 'vitest'
import { type Move, World } from './state-machine/world.ts'

/** At least 100,000 steps where everything is run; a fifth of them all day. */
const RUNS = process.env.REQUIRE_SERVICES === '1' ? 600 : 100
const STEPS = 220

const move: fc.Arbitrary<Move> = fc.record({
  act: fc.nat(999),
  who: fc.nat(3),
  pick: fc.nat(99),
  other: fc.nat(9999),
  isTwice: fc.nat(9).map((n) => n === 0),
})

test('no order of calls by two users and an attacker reaches a session without its factors', {
  timeout: 180_000,
}, async () => {
  const reached: Record<string, number> = {}
  let steps = 0
  await fc.assert(
    fc.asyncProperty(fc.array(move, { maxLength: 2 * STEPS, size: 'max' }), async (moves) => {
      const world = await World.open()
      for (const move of moves) await world.move(move)
      steps += moves.length
      for (const [what, times] of Object.entries(world.reached)) reached[what] = (reached[what] ?? 0) + times
    }),
    { numRuns: RUNS, endOnFailure: true },
  )
  console.log(`${steps} steps: ${JSON.stringify(reached)}`)
  const everything = ['totp', 'backup_code', 'verify', 'confirm', 'disable', 'rotate', 'view', 'remove']
  for (const what of [...everything, 'refresh', 'trusted device', 'recovery']) {
    assert.ok(
      (reached[what] ?? 0) > RUNS / 20,
      `${what} was reached ${reached[what] ?? 0} times: nothing is shown by that`,
    )
  }
})
