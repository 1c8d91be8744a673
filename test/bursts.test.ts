import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'vitest'
import { enrollBy, hostOptions, startHost, wrongCodeAt } from './hosts/hosts.ts'
import { postgresPool, services } from './services.ts'

const NOON = 1_800_000_000
const BURSTS = 30
const GUESSES = 200
/** What an answer may say of a code. All other answers say only that it was not looked at. */
const VERDICTS = new Set(['ok', 'invalid_code', 'code_already_used'])

interface Ground {
  database: string
  drop(): Promise<unknown>
}

const grounds: { name: string; processes: number; isThere: boolean; make(): Promise<Ground> }[] = [
  {
    name: 'SQLite, one process',
    processes: 1,
    isThere: true,
    async make() {
      const folder = await mkdtemp(join(tmpdir(), 'totp-kit-bursts-'))
      return { database: join(folder, 'app.db'), drop: () => rm(folder, { recursive: true }) }
    },
  },
  {
    name: 'PostgreSQL, four processes',
    processes: 4,
    isThere: services.postgres,
    async make() {
      const { url, drop } = await postgresPool()
      return { database: url, drop }
    },
  },
]

/** Always the same sequence, so that a failure can be seen again. */
function randomNumbers(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}

describe.each(grounds)('$name: bursts of guesses', ({ isThere, processes, make }) => {
  test.skipIf(!isThere)(
    'of 200 guesses at once at most five are told, and the right one among them is not let ahead',
    { timeout: 120_000 },
    async () => {
      const ground = await make()
      const options = hostOptions(ground.database)
      const first = await startHost(options)
      const others = await Promise.all(Array.from({ length: processes - 1 }, () => startHost(options)))
      const hosts = [first, ...others]
      const random = randomNumbers(1)
      let letIn = 0
      try {
        for (let burst = 0; burst < BURSTS; burst++) {
          const { userId, phone } = await enrollBy(first, `user-${burst}`, NOON)
          const at = NOON + 3600
          const place = 100 + Math.floor(random() * (GUESSES - 100))
          const codes = Array.from({ length: GUESSES }, (_, n) =>
            n === place ? phone.codeAt(at) : wrongCodeAt(phone, at, n * 97),
          )

          const told = await Promise.all(
            codes.map((code, n) => hosts[n % processes]?.ask({ call: 'totp', userId, code, at })),
          )

          const outcomes = told.map((answer) => String(answer?.outcome))
          assert.deepEqual(
            outcomes.filter((outcome) => !VERDICTS.has(outcome) && outcome !== 'too_many_attempts'),
            [],
          )
          const verdicts = outcomes.filter((outcome) => VERDICTS.has(outcome)).length
          assert.ok(verdicts >= 1 && verdicts <= 5, `burst ${burst}: ${verdicts} verdicts were told`)
          if (outcomes[place] === 'ok') letIn++
        }
        assert.ok(letIn <= 5, `the right code, never among the first hundred, got in ${letIn} times of ${BURSTS}`)
      } finally {
        await Promise.all(hosts.map((host) => host.end()))
        await ground.drop()
      }
    },
  )
})
