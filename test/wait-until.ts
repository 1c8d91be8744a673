/** Looks again until it is so, for at most so long; the test fails when it never is. */
export async function until(isSo: () => Promise<boolean>, everyMs = 5, maxMs = 5000): Promise<void> {
  for (const end = Date.now() + maxMs; !(await isSo()); ) {
    if (Date.now() > end) throw new Error('waited in vain')
    await new Promise((resolve) => setTimeout(resolve, everyMs))
  }
}
