/** What was measured, as Markdown. */

import { median, quantile, ratioOf, ratioText, short } from './measure.mjs'
import { OPEN } from './open-budgets.mjs'

/** The budgets of the design: each is a ratio in this run, or a size. */
export function reportOf(measured, { isShort, minutes, machine, versions }) {
  const { http, inProcess, imports, memory, growth } = measured
  return `# Results

${new Date().toISOString().slice(0, 10)}, ${isShort ? 'the short form' : 'the whole run'}, ${minutes.toFixed(1)} minutes.
${machine}.
${versions}.

Ratios are medians over the rounds, with the middle half in brackets; in each round all contenders ran in turn. CPU is that of
the server's processes alone, without the database server's. [README.md](README.md) says how to read it.

## Budgets

Against another: how many times less CPU a request, and how many times more requests a second. Against the limit, how many times
more CPU, and how many times fewer requests.

${budgetText(measured)}

## End to end over HTTP

${table(
  [
    'database',
    'work',
    'through',
    'processes',
    'connections',
    'contender',
    'CPU µs a request',
    'requests a second',
    'p50 µs',
    'p99 µs',
    'CPU against totp-kit',
  ],
  http.rows.flatMap(httpRows),
)}
${absentText(http.absent)}
## In process

${table(['work', 'contender', 'CPU µs', 'against totp-kit', 'bytes'], inProcess.flatMap(inProcessRows))}

## Growth

${table(['database', 'what', 'µs for the second step', 'against the smallest'], growth.flatMap(growthRows))}

## Memory

${table(
  ['verifications', 'heap kB', 'resident kB'],
  memory.map(({ logins, heapKb, rssKb }) => [
    logins.toLocaleString('en'),
    heapKb.toLocaleString('en'),
    rssKb.toLocaleString('en'),
  ]),
)}

## Import

${table(
  ['process', 'ms from start to end', 'over bare Node'],
  Object.entries(imports).map(([name, times]) => [
    name,
    short(median(times)),
    short(median(over(times, imports['bare node']))),
  ]),
)}
`
}

/** What is not met has its reason and its plan below the table, or says NO. */
function budgetText(measured) {
  const notes = []
  const rows = budgetsOf(measured).map(({ budget, values, must, isMet }) => {
    const note = OPEN.find(({ budgets }) => budgets.test(budget))
    if (!isMet && note && !notes.includes(note)) notes.push(note)
    const met = isMet ? 'yes' : note ? `open (${notes.indexOf(note) + 1})` : 'NO'
    return [budget, values[0], values[1] ?? '', must, met]
  })
  const below = notes.map(({ reason, plan }, n) => `${n + 1}. ${reason} Plan: ${plan}`)
  return [table(['budget', 'measured, CPU', 'requests a second', 'must be', 'met'], rows), ...below].join('\n\n')
}

function budgetsOf({ http, inProcess, imports, memory, growth }) {
  const budgets = []
  const add = (budget, isMet, must, ...values) => budgets.push({ budget, values, must, isMet })
  const roundsOf = ({ database, work, connections = 16 }, contender) =>
    http.rows.find(
      (row) =>
        row.database === database &&
        row.work === work &&
        row.adapter === 'node' &&
        row.processes === 1 &&
        row.connections === connections,
    )?.results[contender]
  /** How many times better than `contender`. */
  const timesBetter = (scenario, contender, member) => {
    const [ours, theirs] = [roundsOf(scenario, 'totp-kit'), roundsOf(scenario, contender)]
    if (!ours || !theirs) return null
    const [a, b] = [theirs, ours].map((rounds) => rounds.map((round) => round[member]))
    return member === 'perSecond' ? ratioOf(b, a) : ratioOf(a, b)
  }
  const against = (name, scenario, contender, times) => {
    const [cpu, perSecond] = ['cpu', 'perSecond'].map((member) => timesBetter(scenario, contender, member))
    if (!cpu) return
    const isMet = cpu.median >= times && perSecond.median >= times
    add(`${name}, against ${contender}`, isMet, `≥ ${times} ×`, ratioText(cpu), ratioText(perSecond))
  }
  for (const [database, betterAuth] of [
    ['sqlite', 9],
    ['postgres', 11],
  ]) {
    for (const work of ['login', 'backup']) {
      const scenario = { database, work }
      const name = `${work} on ${database}`
      against(name, scenario, 'better-auth', betterAuth)
      against(name, scenario, 'django', 3)
      const [ours, limit] = [roundsOf(scenario, 'totp-kit'), roundsOf(scenario, 'limit')]
      if (!ours || !limit) continue
      const [cpu, perSecond] = ['cpu', 'perSecond'].map((member) => {
        const [a, b] = [ours, limit].map((rounds) => rounds.map((round) => round[member]))
        return member === 'cpu' ? ratioOf(a, b) : ratioOf(b, a)
      })
      const isMet = cpu.median <= 1.3 && perSecond.median <= 1.3
      add(`${name}, against limit`, isMet, '≤ 1.3', ratioText(cpu), ratioText(perSecond))
    }
    const create = { database, work: 'create' }
    against(`create on ${database}`, create, 'better-auth', 5)
    against(`create on ${database}`, create, 'django', 12)
    const guarded = { database, work: 'guarded' }
    const [ours, limit] = [roundsOf(guarded, 'totp-kit'), roundsOf(guarded, 'limit')]
    if (ours && limit) {
      const beyond = median(ours.map(({ cpu }, round) => cpu - limit[round].cpu))
      add(`guarded call on ${database}, beyond the limit`, beyond <= 25, '≤ 25 µs', `${short(beyond)} µs`)
    }
    against(`one login alone on ${database}`, { database, work: 'login', connections: 1 }, 'before', 1)
    const p99 = timesBetter({ database, work: 'login' }, 'before', 'p99')
    if (p99) add(`login on ${database}, p99 against before`, p99.median > 1, '> 1 ×', `p99 ${ratioText(p99)}`)
  }
  const { times } = inProcess.find(({ name }) => name === 'TOTP check, wrong code')
  const wrong = ratioOf(times.otpauth, times['totp-kit'])
  add('wrong code in process, against otpauth', wrong.median >= 1, '≥ 1 ×', ratioText(wrong))
  const right = ratioOf(times['totp-kit, right code'], times['totp-kit'])
  add('right code, against a wrong one', Math.abs(right.median - 1) <= 0.1, '0.9 to 1.1', ratioText(right))
  const spent = median(over(imports['totp-kit'], imports['bare node']))
  add('import of totp-kit over bare Node', spent <= 30, '≤ 30 ms', `${short(spent)} ms`)
  for (const { database, sizes, codes } of growth) {
    if (!sizes) continue
    const [first, last] = [sizes[0], sizes.at(-1)]
    const byUsers = ratioOf(last.times, first.times)
    const users = `${first.users.toLocaleString('en')} to ${last.users.toLocaleString('en')} users`
    add(`growth on ${database}, ${users}`, byUsers.median <= 1.15, 'flat (≤ 1.15)', ratioText(byUsers))
    const ten = codes.find(({ count }) => count === 10)
    const byCodes = ratioOf(ten.times, codes[0].times)
    add(`growth on ${database}, 1 to 10 backup codes`, byCodes.median <= 1.15, 'flat (≤ 1.15)', ratioText(byCodes))
  }
  const [heapFirst, heapLast] = [memory[0].heapKb, memory.at(-1).heapKb]
  const logins = memory.at(-1).logins.toLocaleString('en')
  const heap = `${short(heapFirst)} to ${short(heapLast)} kB`
  add(`heap over ${logins} verifications`, heapLast <= heapFirst * 1.1, 'flat (≤ 1.1)', heap)
  return budgets
}

function httpRows({ database, work, adapter, processes, connections, results }) {
  const ours = results['totp-kit']?.map(({ cpu }) => cpu)
  return Object.entries(results).map(([contender, rounds]) => {
    const of = (member) => median(rounds.map((round) => round[member]))
    const cpu = rounds.map((round) => round.cpu)
    const ratio = contender === 'totp-kit' || !ours ? '' : ratioText(ratioOf(cpu, ours))
    const numbers = [of('cpu'), of('perSecond'), of('p50'), of('p99')].map(short)
    return [database, work, adapter, String(processes), String(connections), contender, ...numbers, ratio]
  })
}

function inProcessRows({ name, times, sizes }) {
  return Object.entries(times).map(([contender, all]) => [
    name,
    contender,
    short(median(all)),
    contender === 'totp-kit' ? '' : ratioText(ratioOf(all, times['totp-kit'])),
    sizes[contender] === undefined ? '' : sizes[contender].toLocaleString('en'),
  ])
}

function growthRows({ database, absent, sizes, codes }) {
  if (absent) return [[database, `LEFT OUT: ${absent}`, '', '']]
  const rowsOf = (all, what) =>
    all.map((one, index) => [
      database,
      what(one),
      short(median(one.times)),
      index === 0 ? '' : ratioText(ratioOf(one.times, all[0].times)),
    ])
  return [
    ...rowsOf(sizes, ({ users }) => `${users.toLocaleString('en')} users`),
    ...rowsOf(codes, ({ count }) => `${count} backup codes`),
  ]
}

/** What is above the quiet half of a base that was measured in turn. */
function over(times, base) {
  const floor = quantile(base, 0.5)
  return times.map((time) => time - floor)
}

function absentText(absent) {
  if (absent.length === 0) return ''
  return `\nLEFT OUT: ${absent.map(({ database, contender, reason }) => `${contender} on ${database} (${reason})`).join('; ')}.\n`
}

function table(heads, rows) {
  const widths = heads.map((head, column) => Math.max(3, head.length, ...rows.map((cells) => cells[column].length)))
  const line = (cells) => `| ${cells.map((cell, column) => cell.padEnd(widths[column])).join(' | ')} |`
  return [line(heads), `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`, ...rows.map(line)].join('\n')
}
