import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { beginEnrollment, challenge, enroll, logIn, logInWithPhone } from './actors.ts'
import { STATUS_OF } from './answer.ts'
import { type Call, EXPRESS_WITH_PARSERS, FETCH, type Front, NODE, type Service, startService } from './harness.ts'
import { type Row, rows } from './rows.ts'

/** Fewer where every request is a real one. */
const runs: (Front & { numRuns: number })[] = [
  { ...FETCH, numRuns: 150 },
  { ...EXPRESS_WITH_PARSERS, numRuns: 25 },
  { ...NODE, numRuns: 10 },
]

const NAMES = [...new Set(rows.flatMap(({ required, optional }) => Object.keys({ ...required, ...optional })))]
const ODD_NAMES = [
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  'hasOwnProperty',
  'length',
  '',
  'then',
  '$where',
]
const ODD_TEXTS = [
  '',
  ' ',
  '\0',
  '\ud800',
  '\udfff\ud800',
  '1e6',
  'null',
  '١٢٣٤٥٦',
  '１２３４５６',
  '%00',
  '../',
  'ﷺ',
  'é\u0301',
]
const TYPES = [
  'application/json',
  'application/json; charset=utf-8',
  'application/json;charset',
  'application/json; charset=utf-16',
  'application/x-www-form-urlencoded',
  'multipart/form-data; boundary=x',
  'text/plain',
  '/',
  ';',
  '',
]

/** Anything that JSON can say, near to what the endpoints want or far from it. */
function json(known: readonly string[]): fc.Arbitrary<unknown> {
  const text = fc.oneof(
    fc.constantFrom(...ODD_TEXTS, ...known),
    fc.string({ unit: 'binary', maxLength: 80 }),
    fc.string({ unit: fc.constantFrom('a', '1', ' ', '-', '\ud800', '\uff11', '\u200d', '\u0000'), maxLength: 80 }),
    fc.stringMatching(/^[0-9]{5,7}$/),
    fc.integer({ min: 60, max: 5000 }).map((length) => 'x'.repeat(length)),
  )
  const value = fc.oneof(
    { weight: 4, arbitrary: text },
    { weight: 1, arbitrary: fc.oneof(fc.integer(), fc.double(), fc.boolean(), fc.constant(null)) },
    { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 5 }) },
  )
  const name = fc.oneof(fc.constantFrom(...NAMES), fc.constantFrom(...ODD_NAMES), fc.string({ maxLength: 10 }))
  const members = fc.array(fc.tuple(name, value), { maxLength: 6 })
  // Written by hand, for an object literal has no member of its own called __proto__.
  const object = members.map((pairs) => {
    const written = pairs.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value) ?? 'null'}`)
    return `{${written.join(',')}}`
  })
  return fc.oneof(
    { weight: 5, arbitrary: object },
    { weight: 1, arbitrary: fc.jsonValue().map((v) => JSON.stringify(v)) },
  )
}

function bodies(known: readonly string[]): fc.Arbitrary<Pick<Call, 'raw' | 'headers'>> {
  const typed = json(known).map((raw) => ({ raw: raw as string, headers: { 'content-type': 'application/json' } }))
  const form = fc
    .array(fc.tuple(fc.oneof(fc.constantFrom(...NAMES, ...ODD_NAMES)), fc.string({ unit: 'binary', maxLength: 40 })), {
      maxLength: 6,
    })
    .map((pairs) => ({
      raw: new URLSearchParams(pairs).toString(),
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
    }))
  const bytes = fc.record({
    raw: fc.oneof(
      fc.uint8Array({ maxLength: 200 }).map((bytes) => new Uint8Array(bytes)),
      fc.string({ unit: 'binary', maxLength: 200 }),
      json(known).map((raw) => (raw as string).slice(0, -1)),
    ),
    headers: fc.record({
      'content-type': fc.constantFrom(...TYPES),
      'content-encoding': fc.constantFrom('identity', 'gzip', 'br', 'deflate', 'x'),
    }),
  })
  return fc.oneof({ weight: 5, arbitrary: typed }, { weight: 1, arbitrary: form }, { weight: 2, arbitrary: bytes })
}

/** Someone in each state, and the tokens that an attacker could have got hold of. */
async function cast(service: Service) {
  const alice = await enroll(service, 'alice')
  const fresh = await logInWithPhone(service, alice)
  const bob = await logIn(service, service.register('bob'))
  await beginEnrollment(service, bob.access)
  const carol = await logIn(service, service.register('carol'))
  const open = await challenge(service, alice.person)
  return {
    bearers: [undefined, alice.session.access, fresh.access, bob.access, carol.access, fresh.refresh, open],
    known: [
      open,
      fresh.refresh,
      carol.refresh,
      carol.access,
      'alice',
      alice.person.password,
      String(alice.backupCodes[0]),
    ],
  }
}

const STATUSES = new Set(Object.values(STATUS_OF))

describe.each(runs)('$name: whatever is sent', ({ numRuns, ...front }) => {
  test.each<Pick<Row, 'method' | 'path'>>(rows)(
    '$method $path answers as documented and never fails',
    { timeout: 60_000 },
    async ({ method, path }) => {
      const service = await startService(front, { tokens: { accessTokenSeconds: 3600 } })
      const { bearers, known } = await cast(service)
      const calls = fc.record({ bearer: fc.constantFrom(...bearers), body: bodies(known), slash: fc.boolean() })
      await fc.assert(
        fc.asyncProperty(calls, async ({ bearer, body, slash }) => {
          // `call` holds the answer to the rules for every endpoint and to the OpenAPI document.
          const sent = method === 'GET' ? {} : body
          const { status } = await service.call({ method, path: slash ? `${path}/` : path, bearer, ...sent })
          expect(status < 300 || (STATUSES.has(status) && status < 500)).toBe(true)
        }),
        { numRuns },
      )
      expect(service.errors).toEqual([])
    },
  )

  test('any method on any path is answered as ours, or left to the host', { timeout: 60_000 }, async () => {
    const service = await startService(front)
    const { bearers } = await cast(service)
    const segment = fc.oneof(
      fc.constantFrom(
        ...rows.flatMap(({ path }) => path.split('/')),
        'openapi.json',
        '__proto__',
        '..',
        '.',
        '%2e',
        '',
      ),
      fc.string({ maxLength: 12 }).map(encodeURIComponent),
    )
    const path = fc.oneof(
      fc.constantFrom(...rows.map((row) => row.path)),
      fc
        .tuple(fc.constantFrom('totp', 'jwt'), fc.array(segment, { maxLength: 3 }))
        .map((parts) => parts.flat().join('/')),
    )
    const method = fc.constantFrom('GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'PROPFIND', 'LOCK')
    await fc.assert(
      fc.asyncProperty(method, path, fc.constantFrom(...bearers), async (method, path, bearer) => {
        const answer = await service.send({ method, path, bearer })
        const text = await answer.text()
        expect(answer.status).toBeLessThan(500)
        // The answer to HEAD has no body by which to tell whose it is.
        const isOfHost = text === 'nothing of the host either' || (method === 'HEAD' && answer.status === 404)
        if (!isOfHost) expect(answer.headers.get('cache-control')).toBe('no-store')
      }),
      { numRuns: numRuns * 3 },
    )
    expect(service.errors).toEqual([])
  })
})
