import type { FailureLimits, Policy } from './policy.ts'

/** How far guessing gets somebody who has the password and tries for a year, at exactly the pace that is allowed. */
export interface GuessingChance {
  /** Codes that are right at one moment, of all that could be typed. */
  perGuess: number
  /** The owner never logs in: the hard cap ends it. */
  ownerAway: { guesses: number; chance: number }
  /** The owner logs in daily, which clears the consecutive failures; the total ends it. The worse of the two. */
  ownerDaily: { guesses: number; chance: number }
}

/** More than this in a year is refused at start-up: a security review would ask. Our defaults stay below 1 %. */
export const MAX_CHANCE_PER_YEAR = 0.05

const DAYS = 365
const DAY_SECONDS = 86_400

/**
 * An authenticator keeps the digits that it was enrolled with, whatever the policy says today: six are the fewest that
 * any policy allows, and nothing here knows how many phones have more.
 */
const FEWEST_DIGITS = 6

/** @returns numbers for a policy; the chance counts every authenticator that a user may have, as one of six digits */
export function guessingChance({
  totp,
  failures,
  maxAuthenticators,
}: Pick<Policy, 'totp' | 'failures' | 'maxAuthenticators'>): GuessingChance {
  const perGuess = Math.min(1, (maxAuthenticators * (2 * totp.window + 1)) / 10 ** FEWEST_DIGITS)
  const chanceOf = (guesses: number) => ({ guesses, chance: 1 - (1 - perGuess) ** guesses })
  const { lockAfter, maxPerPeriod, periodDays } = failures
  // A year touches so many periods; two in a row hold at most the total (store/failure-budget.ts).
  const periods = Math.ceil(DAYS / periodDays) + 1
  const byTotal = Math.ceil(periods / 2) * maxPerPeriod
  const daily = DAYS * guessesBetweenLogins(failures)
  return { perGuess, ownerAway: chanceOf(Math.min(lockAfter, byTotal)), ownerDaily: chanceOf(Math.min(byTotal, daily)) }
}

/** Guesses that the delays let through in one day, from none counted; one below the hard cap, lest the owner notices. */
function guessesBetweenLogins({ delayAfter, firstDelaySeconds, maxDelaySeconds, lockAfter }: FailureLimits): number {
  let guesses = 0
  for (let seconds = 0; seconds < DAY_SECONDS && guesses < lockAfter - 1; guesses++) {
    const further = guesses + 1 - delayAfter
    seconds += further < 0 ? 0 : Math.min(firstDelaySeconds * 2 ** further, maxDelaySeconds)
  }
  return guesses
}
