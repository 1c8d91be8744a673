/** Says loudly that tests are left out, for want of what they run on; with REQUIRE_SERVICES=1 that is an error. */
export function reportSkipped(message: string): void {
  if (process.env.REQUIRE_SERVICES === '1') throw new Error(message)
  console.warn(`\n*** ${message} ***\n`)
}
