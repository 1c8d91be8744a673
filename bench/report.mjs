/** What was measured, as Markdown. */
import { median, quantile, ratioOf, ratioText, short } from './measure.mjs'

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

${table(['budget', 'measured', 'must be', 'met'], budgetRows(measured))}

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

function budgetRows({ http, inProcess, imports, memory, growth }) {
  const rows = []
  const add = (budget, value, text, must, isMet) =>
    rows.push([budget, text ?? short(value), must, isMet ? 'yes' : 'NO'])
  const cpuOf = (database, work, contender) => {
    const row = http.rows.find(
      (row) =>
        row.database === database &&
        row.work === work &&
        row.adapter === 'node' &&
        row.processes === 1 &&
        row.connections === 16,
    )
    return row?.results[contender]?.map(({ cpu }) => cpu)
  }
  const against = (database, work, contender, budget) => {
    const [ours, theirs] = [cpuOf(database, work, 'totp-kit'), cpuOf(database, work, contender)]
    if (!ours || !theirs) return
    const isLimit = contender === 'limit'
    const ratio = isLimit ? ratioOf(ours, theirs) : ratioOf(theirs, ours)
    const isMet = isLimit ? ratio.median <= budget : ratio.median >= budget
    add(
      `${work} on ${database}, against ${contender}`,
      0,
      ratioText(ratio),
      isLimit ? `≤ ${budget}` : `≥ ${budget} ×`,
      isMet,
    )
  }
  for (const database of ['sqlite', 'postgres']) {
    for (const work of ['login', 'backup']) {
      against(database, work, 'limit', 1.3)
      against(database, work, 'better-auth', 20)
      against(database, work, 'django', 15)
    }
    against(database, 'create', 'better-auth', 10)
    against(database, 'create', 'django', 50)
  }
  const check = inProcess.find(({ name }) => name === 'TOTP check, right code')
  for (const [contender, times] of [
    ['otpauth', 1.4],
    ['otplib', 3],
  ]) {
    const ratio = ratioOf(check.times[contender], check.times['totp-kit'])
    add(`TOTP check against ${contender}`, 0, ratioText(ratio), `≥ ${times} ×`, ratio.median >= times)
  }
  const qr = median(inProcess.find(({ name }) => name === 'QR code as SVG').times['totp-kit'])
  add('QR code, CPU', qr, `${short(qr)} µs`, '≤ 100 µs', qr <= 100)
  const spent = median(over(imports['totp-kit'], imports['bare node']))
  add('import of totp-kit over bare Node', spent, `${short(spent)} ms`, '≤ 30 ms', spent <= 30)
  for (const { database, sizes, codes } of growth) {
    if (!sizes) continue
    const [first, last] = [sizes[0], sizes.at(-1)]
    const byUsers = ratioOf(last.times, first.times)
    const users = `${first.users.toLocaleString('en')} to ${last.users.toLocaleString('en')} users`
    add(`growth on ${database}, ${users}`, 0, ratioText(byUsers), 'flat (≤ 1.15)', byUsers.median <= 1.15)
    const ten = codes.find(({ count }) => count === 10)
    const byCodes = ratioOf(ten.times, codes[0].times)
    add(`growth on ${database}, 1 to 10 backup codes`, 0, ratioText(byCodes), 'flat (≤ 1.15)', byCodes.median <= 1.15)
  }
  const [heapFirst, heapLast] = [memory[0].heapKb, memory.at(-1).heapKb]
  const logins = memory.at(-1).logins.toLocaleString('en')
  add(
    `heap over ${logins} verifications`,
    0,
    `${short(heapFirst)} to ${short(heapLast)} kB`,
    'flat (≤ 1.1)',
    heapLast <= heapFirst * 1.1,
  )
  return rows
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
