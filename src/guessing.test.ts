import assert from 'node:assert/strict'
import { test } from 'vitest'
import { guessingChance } from './guessing.ts'
import { resolvePolicy } from './resolve-policy.ts'
import { memoryStore } from './store/memory.ts'
import { byStep, enroll, firstStep, noon, wrong } from './testing/store-fixtures.ts'

const DAY = 86_400
const policyOf = (options: object = {}) => resolvePolicy({ issuer: 'Acme', ...options })

/** Guesses that a real store lets through in a year, at the pace that it allows. */
async function guessesInAYear(failures: object, ownerLogsIn: boolean): Promise<number> {
  const limits = policyOf({ failures: { ...failures, unsafe: true } }).failures
  const store = memoryStore()
  const user = await enroll(store)
  let guesses = 0
  for (let day = 0; day < 365; day++) {
    const dawn = noon + day * DAY
    if (ownerLogsIn && day > 0) {
      await store.settleAttempt(byStep(user, firstStep + day, { now: dawn, limits }))
    }
    for (let now = dawn; now < dawn + DAY; ) {
      // One below the hard cap: the attacker does not want to be noticed.
      const { consecutive } = await store.getFailureBudget('ann', 'totp', now, limits)
      if (ownerLogsIn && consecutive >= limits.lockAfter - 1) break
      const settled = await store.settleAttempt(wrong({ now, limits }))
      if (settled.outcome === 'wrong') guesses++
      else if (settled.outcome === 'delayed') now = settled.retryAt
      else break
    }
  }
  return guesses
}

test('a real store lets no more guesses through in a year than the chance is computed from', async () => {
  for (const failures of [
    {},
    { maxPerPeriod: 40, periodDays: 7 },
    { lockAfter: 20, maxPerPeriod: 5000 },
    { delayAfter: 1, lockAfter: 1000 },
  ]) {
    const { ownerAway, ownerDaily } = guessingChance(policyOf({ failures: { ...failures, unsafe: true } }))
    const away = await guessesInAYear(failures, false)
    const daily = await guessesInAYear(failures, true)

    assert.ok(away <= ownerAway.guesses, `${away} of ${ownerAway.guesses} while the owner is away`)
    assert.ok(daily <= ownerDaily.guesses, `${daily} of ${ownerDaily.guesses} while the owner logs in daily`)
    assert.ok(daily >= ownerDaily.guesses * 0.8, `the bound is no guess: ${daily} of ${ownerDaily.guesses}`)
  }
})

test('the defaults leave an attacker with the password less than one chance in a hundred in a year', () => {
  const { ownerAway, ownerDaily } = guessingChance(policyOf())

  assert.ok(ownerAway.chance < 0.0004, String(ownerAway.chance))
  assert.ok(ownerDaily.chance < 0.01, String(ownerDaily.chance))
})

test('codes count as six digits whatever the policy says: phones that were enrolled before keep theirs', () => {
  const loose = { failures: { maxPerPeriod: 10_000 }, totp: { digits: 8 } }

  assert.deepEqual(guessingChance(policyOf({ totp: { digits: 8 } })), guessingChance(policyOf()))
  assert.throws(() => policyOf(loose), RangeError)
})

test('a configuration that is guessed too often is refused at start-up, unless it is named unsafe', () => {
  const loose = { maxPerPeriod: 10_000 }

  assert.throws(
    () => policyOf({ failures: loose }),
    /^RangeError: with these values of failures, .* set failures\.unsafe to true to allow this$/,
  )
  assert.equal(policyOf({ failures: { ...loose, unsafe: true } }).failures.maxPerPeriod, 10_000)
  assert.throws(() => policyOf({ maxAuthenticators: 5, totp: { window: 2 } }), RangeError)
  assert.equal(policyOf({ maxAuthenticators: 5 }).maxAuthenticators, 5)
})
