import type { UnixSeconds } from '../clock.ts'
import type { FailureLimits } from '../policy.ts'
import type { Dialect } from './sql/dialect.ts'
import type { Blocked, FailureBudget } from './store.ts'

/*
 * The failure budget: how many wrong codes a user may enter, of one kind of code. The whole rule is here, once in
 * TypeScript and once as its translation to SQL; `failure-budget.test.ts` compares the two over random histories.
 *
 * - After `delayAfter` failures in a row, each further one delays the next attempt: `firstDelaySeconds`, doubled each
 *   time, at most `maxDelaySeconds`.
 * - After `lockAfter` failures in a row no attempt is admitted, however much time passes.
 * - In any `periodDays` days at most `maxPerPeriod` attempts fail, with successes in between or not.
 * - A right code ends the row and its delay. A right code that was used before changes nothing.
 */

/**
 * The failures of one user with one kind of code. Failures are counted in fixed periods of `periodDays`. The current
 * period and the whole one before it contain every failure of the last `periodDays` days, and some older ones; so two
 * numbers are enough, and the limit is never exceeded.
 */
export interface FailureCount {
  /** Failures since the last right code. */
  consecutive: number
  blockedUntil: UnixSeconds
  /** The number of the period since 1970. */
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

/** The count moved to the period of `now`. When a clock was set back, the later period stays. */
export function inPeriodOf(count: FailureCount | undefined, now: UnixSeconds, limits: FailureLimits): FailureCount {
  const period = periodOf(now, limits)
  if (!count) return noFailures(period)
  if (period <= count.period) return count
  const inPreviousPeriod = period === count.period + 1 ? count.inPeriod : 0
  return { ...count, period, inPeriod: 0, inPreviousPeriod }
}

/**
 * Why no attempt is admitted; null when one is. Where a delay and the limit of the period both apply, `retryAt` is the
 * later of the two.
 *
 * @param count - moved to the period of `now`
 */
export function blockOf(count: FailureCount, now: UnixSeconds, limits: FailureLimits): Blocked | null {
  if (count.consecutive >= limits.lockAfter) return { outcome: 'locked' }
  const retryAt = Math.max(count.blockedUntil, periodIsFullUntil(count, limits))
  return retryAt > now ? { outcome: 'delayed', retryAt } : null
}

/**
 * The count after one more failure at `now`.
 *
 * @param count - moved to the period of `now`
 */
export function withFailure(count: FailureCount, now: UnixSeconds, limits: FailureLimits): FailureCount {
  const consecutive = count.consecutive + 1
  const beyond = consecutive - limits.delayAfter
  const delay = Math.min(limits.firstDelaySeconds * 2 ** Math.min(beyond, MAX_DOUBLINGS), limits.maxDelaySeconds)
  return { ...count, consecutive, blockedUntil: beyond < 0 ? 0 : now + delay, inPeriod: count.inPeriod + 1 }
}

/** After so many doublings every delay is `maxDelaySeconds`; without an end the number would overflow in SQL. */
const MAX_DOUBLINGS = 20

/**
 * The count after a right code.
 *
 * @param count - moved to the current period
 * @param isCounted - an earlier settlement counted this attempt as a failure: that failure is taken back
 */
export function withSuccess(count: FailureCount, isCounted: boolean): FailureCount {
  const inPeriod = Math.max(0, count.inPeriod - (isCounted ? 1 : 0))
  return { ...count, consecutive: 0, blockedUntil: 0, inPeriod }
}

/** @param count - moved to the period of `now` */
export function budgetOf(count: FailureCount, now: UnixSeconds, limits: FailureLimits): FailureBudget {
  const { consecutive, inPeriod, inPreviousPeriod } = count
  const block = blockOf(count, now, limits)
  const lockedUntil = block === null ? null : block.outcome === 'locked' ? 'forever' : block.retryAt
  const leftInPeriod = limits.maxPerPeriod - inPeriod - inPreviousPeriod
  // After the first delay each failure sets the next one, so there is one attempt at a time.
  const beforeDelay = Math.max(1, limits.delayAfter - consecutive)
  const attemptsLeft = block ? 0 : Math.min(beforeDelay, limits.lockAfter - consecutive, leftInPeriod)
  return { consecutive, attemptsLeft, lockedUntil }
}

/** The start of the period in which one more failure is allowed; 0 when one is allowed now. */
function periodIsFullUntil({ period, inPeriod, inPreviousPeriod }: FailureCount, limits: FailureLimits): UnixSeconds {
  if (inPeriod + inPreviousPeriod < limits.maxPerPeriod) return 0
  const periodsToWait = inPeriod < limits.maxPerPeriod ? 1 : 2
  return (period + periodsToWait) * periodSeconds(limits)
}

function periodSeconds({ periodDays }: FailureLimits): number {
  return periodDays * 86_400
}

/** The numbers of the limits that {@link failureSql} refers to. */
export function limitParameters(now: UnixSeconds, limits: FailureLimits) {
  const { delayAfter, firstDelaySeconds, maxDelaySeconds, lockAfter, maxPerPeriod } = limits
  return { period: periodOf(now, limits), delayAfter, firstDelaySeconds, maxDelaySeconds, lockAfter, maxPerPeriod }
}

/**
 * The rule in SQL, as expressions over a row of the failure table. The parameters are those of {@link limitParameters},
 * and `:now`.
 *
 * @param f - what the statement calls the row
 */
export function failureSql(dialect: Dialect, f = 'f') {
  const least = dialect === 'sqlite' ? 'min' : 'least'
  const greatest = dialect === 'sqlite' ? 'max' : 'greatest'
  const whole = { sqlite: 'INTEGER', postgres: 'integer', mysql: 'SIGNED' }[dialect]
  const inPeriod = `CASE WHEN :period > ${f}.period THEN 0 ELSE ${f}.in_period END`
  const inPreviousPeriod = `CASE WHEN :period > ${f}.period + 1 THEN 0 WHEN :period = ${f}.period + 1 THEN ${f}.in_period
    ELSE ${f}.in_previous_period END`
  const delayEnd = (consecutive: string) => `CASE WHEN ${consecutive} < :delayAfter THEN 0 ELSE :now +
    ${least}(:maxDelaySeconds, :firstDelaySeconds <<
      CAST(${least}(${consecutive} - :delayAfter, ${MAX_DOUBLINGS}) AS ${whole})) END`
  return {
    /** {@link inPeriodOf} */
    columns: `${f}.consecutive, ${f}.blocked_until, ${greatest}(${f}.period, :period) AS period, ${inPeriod} AS in_period,
      ${inPreviousPeriod} AS in_previous_period`,
    /** {@link blockOf} is null. */
    isOpen: `(${f}.consecutive < :lockAfter AND ${f}.blocked_until <= :now
      AND (${inPeriod}) + (${inPreviousPeriod}) < :maxPerPeriod)`,
    /** The end of the delay that the first failure of all sets. */
    firstDelayEnd: delayEnd('1'),
    /**
     * {@link withSuccess} where `isRight`, else {@link withFailure}. The order matters: MySQL assigns from left to right, and
     * an expression sees what was assigned before.
     *
     * @param isCounted - SQL that is 1 where an earlier settlement counted this attempt, else 0
     * @param isAdmitted - where this is false, all stay as they are; null: the statement itself asks for it
     */
    assignments(isRight: string, isCounted: string, isAdmitted: string | null = null) {
      const assigned = {
        blocked_until: `CASE WHEN ${isRight} THEN 0 ELSE ${delayEnd(`${f}.consecutive + 1`)} END`,
        in_previous_period: inPreviousPeriod,
        in_period: `CASE WHEN ${isRight} THEN ${greatest}(0, (${inPeriod}) - ${isCounted}) ELSE (${inPeriod}) + 1 END`,
        period: `${greatest}(${f}.period, :period)`,
        consecutive: `CASE WHEN ${isRight} THEN 0 ELSE ${f}.consecutive + 1 END`,
      }
      return Object.entries(assigned)
        .map(([column, value]) =>
          isAdmitted === null
            ? `${column} = ${value}`
            : `${column} = CASE WHEN ${isAdmitted} THEN ${value} ELSE ${f}.${column} END`,
        )
        .join(', ')
    },
  }
}
