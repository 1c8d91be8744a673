import type { UnixSeconds } from '../clock.ts'
import type { FailureLimits } from '../policy.ts'
import type { FailureBudget, Reservation } from './store.ts'

/**
 * The failures of one user and method. They are counted in periods of `periodDays`; this period and the whole one before
 * it together hold every failure of the last `periodDays` days and some older ones, so the total is never exceeded, and
 * two numbers do for it.
 */
export interface FailureCount {
  consecutive: number
  blockedUntil: UnixSeconds
  period: number
  inPeriod: number
  inPreviousPeriod: number
}

export function noFailures(period: number): FailureCount {
  return { consecutive: 0, blockedUntil: 0, period, inPeriod: 0, inPreviousPeriod: 0 }
}

export function periodOf(at: UnixSeconds, limits: FailureLimits): number {
  return Math.floor(at / periodSeconds(limits))
}

/**
 * Why no further attempt may be judged; null when one may. Where a delay and the total both hold, `retryAt` is the later.
 *
 * @param count - turned to the period of `now`
 */
export function refusalOf(
  count: FailureCount,
  now: UnixSeconds,
  limits: FailureLimits,
): Extract<Reservation, { outcome: 'delayed' | 'locked' }> | null {
  if (count.consecutive >= limits.lockAfter) return { outcome: 'locked' }
  const retryAt = Math.max(count.blockedUntil, totalHoldsUntil(count, limits))
  return retryAt > now ? { outcome: 'delayed', retryAt } : null
}

/** @param count - turned to the period of `now` */
export function budgetOf(count: FailureCount, now: UnixSeconds, limits: FailureLimits): FailureBudget {
  const { consecutive, inPeriod, inPreviousPeriod } = count
  const refused = refusalOf(count, now, limits)
  const lockedUntil = refused === null ? null : refused.outcome === 'locked' ? 'forever' : refused.retryAt
  const inTotal = limits.maxPerPeriod - inPeriod - inPreviousPeriod
  // Past the first delay each failure sets the next one, so there is one attempt at a time.
  const beforeWaiting = Math.max(1, limits.delayAfter - consecutive)
  const attemptsLeft = refused ? 0 : Math.min(beforeWaiting, limits.lockAfter - consecutive, inTotal)
  return { consecutive, attemptsLeft, lockedUntil }
}

/** The start of the period in which one more failure fits into the total; 0 when one fits now. */
function totalHoldsUntil({ period, inPeriod, inPreviousPeriod }: FailureCount, limits: FailureLimits): UnixSeconds {
  if (inPeriod + inPreviousPeriod < limits.maxPerPeriod) return 0
  const periodsToWait = inPeriod < limits.maxPerPeriod ? 1 : 2
  return (period + periodsToWait) * periodSeconds(limits)
}

function periodSeconds({ periodDays }: FailureLimits): number {
  return periodDays * 86_400
}
