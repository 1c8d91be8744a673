import type { UnixSeconds } from '../clock.ts'
import type { FailureLimits } from '../policy.ts'
import type { Reservation } from './store.ts'

/**
 * The failures of one user and method. They are counted in periods of `totalDays`; this period and the whole one before
 * it together hold every failure of the last `totalDays` days and some older ones, so the total is never exceeded, and
 * two numbers do for it.
 */
export interface FailureCount {
  consecutive: number
  blockedUntil: UnixSeconds
  period: number
  inPeriod: number
  inPreviousPeriod: number
}

export function periodOf(at: UnixSeconds, limits: FailureLimits): number {
  return Math.floor(at / periodSeconds(limits))
}

/**
 * Why no further attempt may be judged; null when one may.
 *
 * @param count - turned to the period of `now`
 */
export function refusalOf(
  count: FailureCount,
  now: UnixSeconds,
  limits: FailureLimits,
): Extract<Reservation, { outcome: 'delayed' | 'locked' }> | null {
  if (count.consecutive >= limits.hardCap) return { outcome: 'locked' }
  if (count.blockedUntil > now) return { outcome: 'delayed', retryAt: count.blockedUntil }
  if (count.inPeriod + count.inPreviousPeriod < limits.total) return null
  const periodsToWait = count.inPeriod < limits.total ? 1 : 2
  return { outcome: 'delayed', retryAt: (count.period + periodsToWait) * periodSeconds(limits) }
}

function periodSeconds({ totalDays }: FailureLimits): number {
  return totalDays * 86_400
}
