import { guessingChance, MAX_CHANCE_PER_YEAR } from '../guessing.ts'
import type { FailureLimits } from '../policy.ts'
import { resolvePolicy } from '../resolve-policy.ts'

/** Options of the command, and the limit that each sets. */
const LIMITS = {
  'delay-after': 'delayAfter',
  'first-delay-seconds': 'firstDelaySeconds',
  'max-delay-seconds': 'maxDelaySeconds',
  'lock-after': 'lockAfter',
  'max-per-period': 'maxPerPeriod',
  'period-days': 'periodDays',
} as const satisfies Record<string, keyof FailureLimits>

const TOTP = { window: 'window' } as const

export const SIMULATION_OPTIONS = [...Object.keys(LIMITS), ...Object.keys(TOTP), 'max-authenticators']

/**
 * Published defaults of other systems: guesses a day that each lets through for ever, and time steps that it accepts.
 * Read from their source or documentation in 2026.
 */
const OTHERS: readonly [system: string, guessesPerDay: number, steps: number][] = [
  ['Keycloak, brute-force detection off (default), at 50 a second', 4_320_000, 3],
  ['Supabase: 15 a minute per address', 21_600, 3],
  ['django-totp: 10 a minute per address', 14_400, 3],
  ['Authelia: 50 in 10 minutes per address', 7_200, 3],
  ['Laravel Fortify: 5 a minute per login', 7_200, 3],
  ['Hanko: 3 a minute per address and user', 4_320, 3],
  ['Logto: 100 an hour', 2_400, 3],
  ['better-auth: 10 in 15 minutes', 960, 3],
  ['SuperTokens: 5 in 15 minutes', 480, 3],
  ['django-allauth: 5 in 5 minutes, no window', 1_440, 1],
  ['100 in a row (NIST SP 800-63B-4), reset by a daily login', 99, 3],
]

/**
 * What guessing gets somebody who has the password, with a configuration of ours and with others' defaults.
 *
 * @param given - option → text as typed
 * @throws RangeError for a number outside its range
 */
export function simulateLockout(given: Readonly<Record<string, string | undefined>>): string {
  const { 'max-authenticators': most } = given
  const policy = resolvePolicy({
    issuer: 'simulation',
    failures: { ...chosen(given, LIMITS), unsafe: true },
    totp: chosen(given, TOTP),
    ...(most === undefined ? {} : { maxAuthenticators: Number(most) }),
  })
  const { perGuess, ownerAway, ownerDaily } = guessingChance(policy)
  const { delayAfter, firstDelaySeconds, maxDelaySeconds, lockAfter, maxPerPeriod, periodDays } = policy.failures
  const verdict =
    ownerDaily.chance > MAX_CHANCE_PER_YEAR
      ? `Rejected at startup: above ${percent(MAX_CHANCE_PER_YEAR)} (unless failures.unsafe is true)`
      : `Accepted: at most ${percent(MAX_CHANCE_PER_YEAR)}`
  return `The attacker knows the password and guesses codes for one year at the highest rate that the limits allow.

This configuration
  delay after ${delayAfter} failures in a row, ${firstDelaySeconds} s doubling to ${maxDelaySeconds} s; lock after ${lockAfter} in a row;
  at most ${maxPerPeriod} in ${periodDays} days; codes of 6 digits, window ${policy.totp.window}, authenticators ${policy.maxAuthenticators}: ${perGuess.toExponential(0)} per guess
${row('the owner never logs in', ownerAway)}
${row('the owner logs in daily', ownerDaily)}
  ${verdict}

Defaults of other systems, with no limit on the attacker's addresses
${OTHERS.map(([system, perDay, steps]) => {
  const guesses = perDay * 365
  return row(system, { guesses, chance: 1 - (1 - steps / 1e6) ** guesses })
}).join('\n')}
`
}

function chosen<Name extends string>(
  given: Readonly<Record<string, string | undefined>>,
  names: Readonly<Record<string, Name>>,
): Partial<Record<Name, number>> {
  const typed = Object.entries(names).filter(([option]) => given[option] !== undefined)
  return Object.fromEntries(typed.map(([option, name]) => [name, Number(given[option])])) as Partial<
    Record<Name, number>
  >
}

function row(what: string, { guesses, chance }: { guesses: number; chance: number }): string {
  return `  ${what.padEnd(64)}${guesses.toLocaleString('en').padStart(14)} guesses  ${percent(chance).padStart(8)}`
}

function percent(chance: number): string {
  return chance > 0.9995 ? '~100%' : `${Number((chance * 100).toPrecision(2))}%`
}
