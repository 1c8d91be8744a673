/** Numbers about numbers. */

export function quantile(values, part) {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor((sorted.length - 1) * part)]
}

export const median = (values) => quantile(values, 0.5)

/** Median and middle half of what happened in the same round: a slow moment of the machine is in both, and cancels out. */
export function ratioOf(values, others) {
  const ratios = values.map((value, round) => value / others[round])
  return { median: median(ratios), low: quantile(ratios, 0.25), high: quantile(ratios, 0.75), rounds: ratios.length }
}

/** `1.23 (1.20–1.31)` */
export function ratioText({ median, low, high }) {
  return `${short(median)} (${short(low)}–${short(high)})`
}

export function short(number) {
  if (number >= 100) return Math.round(number).toLocaleString('en')
  return number >= 10 ? number.toFixed(1) : number.toFixed(2)
}

/** Waits for each of `tasks` in turn, `width` at a time. */
export async function inBatches(items, width, work) {
  const results = []
  for (let first = 0; first < items.length; first += width) {
    results.push(...(await Promise.all(items.slice(first, first + width).map(work))))
  }
  return results
}

const started = performance.now()

/** A line of progress, with the seconds since the start. */
export function progress(text) {
  process.stderr.write(`${String(Math.round((performance.now() - started) / 1000)).padStart(4)} s  ${text}\n`)
}
