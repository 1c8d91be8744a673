import assert from 'node:assert/strict'
import fc from 'fast-check'
import { ownerReturns, type Way } from './liveness.ts'
import {
  attackChallenge,
  attackSession,
  attackTokens,
  besiege,
  forge,
  harass,
  knock,
  typeEarly,
} from './moves/attack.ts'
import { addPhone, begin, change, confirm, look, openVault, verify } from './moves/factors.ts'
import { answer, answerRenewed, checkToken, logIn, logInOnDevice, logOut, refresh } from './moves/login.ts'
import type { Given, Move } from './moves/move.ts'
import {
  changeRule,
  cleanUp,
  meetOtherService,
  restart,
  rotateKey,
  setClock,
  setPhone,
  unlock,
  wait,
} from './moves/operation.ts'
import { askForLink, cancel, recover, tellOfNewPassword } from './moves/recovery.ts'
import { changeWithin } from './moves/within.ts'
import type { Storage } from './storage.ts'
import { type Config, World } from './world.ts'

/** Steps of one sequence, on average. */
const STEPS = 200
const WAYS: readonly Way[] = ['password and phone', 'password and backup code', 'mailbox and password']

const comeBack: Move = async (world, given) => {
  if (given.other % 5 > 0) return false
  await ownerReturns(world, given, WAYS[given.pick % 2] as Way)
  return true
}

/** As often as they stand here. */
const owner: readonly Move[] = [
  ...[wait, wait, wait, logIn, logIn, answer, answer, answer, answer, begin, confirm, confirm, addPhone],
  ...[change, change, change, verify, verify, openVault, look, refresh, checkToken, logOut, logInOnDevice],
  ...[askForLink, recover, recover, cancel, tellOfNewPassword, comeBack, answerRenewed],
]
const attacker: readonly Move[] = [
  ...[attackChallenge, attackChallenge, attackSession, attackSession, attackTokens, attackTokens, typeEarly],
  ...[forge, besiege, harass, knock],
]
const operator: readonly Move[] = [
  ...[wait, wait, setClock, setPhone, restart, rotateKey, changeRule, unlock, cleanUp, meetOtherService, changeWithin],
]

const config: fc.Arbitrary<Config> = fc.record({
  seed: fc.noShrink(fc.noBias(fc.nat())),
  steps: fc.integer({ min: 1, max: 2 * STEPS }),
  power: fc.constantFrom('nothing', 'password', 'password', 'mailbox'),
  maxAuthenticators: fc.constantFrom(1, 2),
  codesAre: fc.constantFrom('encrypted', 'encrypted', 'hashed'),
  delaySeconds: fc.constantFrom(0, 600),
  skew: fc.constantFrom(0, 5),
  cookie: fc.boolean(),
})

// Every refusal is an error with a stack; Vitest wants a hundred lines of each.
Error.stackTraceLimit = 8

/** Runs sequences on one storage and prints what they reached. Sequences end with the owner's return by every way. */
export async function runSequences(storage: Storage, runs: number): Promise<void> {
  const reached: Record<string, number> = {}
  const waits: Record<string, number> = {}
  const states = new Set<string>()
  let [steps, answers] = [0, 0]
  await fc.assert(
    fc.asyncProperty(config, async (config) => {
      const world = await World.open(config, storage)
      const story: string[] = []
      try {
        await beginning(world)
        for (let n = 0; n < config.steps; n++) {
          await step(world, story)
          world.steps++
          states.add(world.abstraction())
        }
        for (const user of world.users) {
          for (const way of WAYS) {
            story.push(`${user.username} returns by ${way}`)
            await ownerReturns(world, { user, pick: 1, other: 1, isTwice: false, on: firstOf(world) }, way)
            states.add(world.abstraction())
          }
        }
        await world.close()
        steps += world.steps
        answers += world.answers
        for (const [way, wait] of Object.entries(world.waits)) waits[way] = Math.max(waits[way] ?? 0, wait)
      } catch (error) {
        if (error instanceof Error)
          error.message += `\n${JSON.stringify(config)}\nlast steps:\n  ${story.slice(-25).join('\n  ')}`
        throw error
      }
      for (const [what, times] of Object.entries(world.reached)) reached[what] = (reached[what] ?? 0) + times
    }),
    // SHRINK=1 makes a failed sequence short, which takes minutes.
    {
      numRuns: runs,
      endOnFailure: process.env.SHRINK !== '1',
      ...(process.env.SEED ? { seed: Number(process.env.SEED) } : {}),
    },
  )
  const returns = WAYS.reduce((sum, way) => sum + (reached[`owner by ${way}`] ?? 0), 0)
  console.log(
    [
      `${storage.name}: ${runs} sequences, ${steps} steps, ${states.size} states`,
      `safety: each of ${answers} answers was one that the rules allow`,
      `liveness: the owner came back ${returns} times, each time within the promised time; the longest waits, in seconds: ${listed(waits)}`,
      `reached: ${listed(reached)}`,
    ].join('\n  '),
  )
  for (const what of expected(storage)) {
    assert.ok(
      // Of a few sequences, as on the servers, each may miss by chance.
      (reached[what] ?? 0) >= Math.floor(runs / 40),
      `${what} was reached ${reached[what] ?? 0} times: nothing is shown by that`,
    )
  }
}

const listed = (numbers: Record<string, number>) =>
  Object.entries(numbers)
    .map(([name, number]) => `${name} ${number}`)
    .join(', ')

function expected(storage: Storage): string[] {
  const everywhere = ['totp at jwt', 'totp at stateful', 'totp at stateless', 'backup_code at jwt', 'verify', 'confirm']
  const more = ['disable', 'rotate', 'view', 'remove', 'refresh', 'trusted device', 'recovery', 'cancel', 'vault']
  const world = ['clock back', 'clock forward', 'restart', 'key rotation', 'other service', 'forgery']
  const wire = storage.name === 'memory' ? ['replay', 'resume', 'login by enrollment', 'raise'] : []
  const sieges = storage.name === 'memory' ? ['siege of totp', 'siege of backup_code', 'siege of a recovery'] : []
  const within = storage.begin ? ['within: COMMIT', 'within: ROLLBACK', 'within: too late'] : []
  return [...everywhere, ...more, ...world, ...wire, ...sieges, ...within, ...WAYS.map((way) => `owner by ${way}`)]
}

const firstOf = (world: World) => world.processes[0] as Given['on']

/** Two have a second factor when it begins, and the third must get one: chance alone would seldom come so far. */
async function beginning(world: World): Promise<void> {
  for (const user of world.users) {
    const given = { user, pick: 1, other: 1, isTwice: false, on: firstOf(world) }
    if (user === world.users[2]) user.mustEnroll = true
    else {
      await logIn(world, given)
      await begin(world, given)
      await confirm(world, given)
      assert.ok(user.enabled)
    }
  }
}

/** One move; where it finds nothing to do, another. */
async function step(world: World, story: string[]): Promise<void> {
  const who = world.chance(60)
  const moves = who < 36 ? owner : who < 52 ? attacker : operator
  const user = world.users[who % 3] as Given['user']
  for (;;) {
    const move = moves[world.chance(moves.length)] as Move
    const [pick, other, isTwice] = [world.chance(100), world.chance(10_000), world.chance(10) === 0]
    const on = world.processes[other % 2] as Given['on']
    story.push(`${move.name} ${user.username} ${JSON.stringify({ pick, other, isTwice })} at ${on.now()}`)
    if (await move(world, { user, pick, other, isTwice, on })) return
    story.pop()
  }
}
