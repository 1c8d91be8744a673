/**
 * Runs everything in one go, prints what came out as ratios, and writes RESULTS.md. Each part runs in a process of its own.
 * `--short`: fewer rounds and users, within three minutes. `--against <commit>`: that commit takes part.
 */
import { spawn } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { buildCommit } from './against.mjs'
import { serverVersion } from './databases.mjs'
import { addBefore, DJANGO_PACKAGES, djangoVersions, pinnedTo } from './http/contenders.mjs'
import { measureHttp } from './http/scenarios.mjs'
import { progress } from './measure.mjs'
import { reportOf } from './report.mjs'

const isShort = process.argv.includes('--short')
const against = process.argv.includes('--against') ? process.argv[process.argv.indexOf('--against') + 1] : null
const began = performance.now()
const before = prepareBefore()

const measured = {
  http: await measureHttp({ isShort }).finally(() => before.drop()),
  inProcess: await part('in-process.mjs'),
  imports: await part('import-cost.mjs'),
  ...(await memoryAndGrowth()),
}
const about = {
  isShort,
  minutes: (performance.now() - began) / 60_000,
  machine: await machine(),
  versions: await versions(),
}
if (before.absent) measured.http.absent.push(before.absent)
const report = reportOf(measured, about)
process.stdout.write(report)
if (!isShort || process.argv.includes('--write')) {
  writeFileSync(new URL('RESULTS.md', import.meta.url), report)
  progress('written: bench/RESULTS.md')
}

/** `absent`: why the commit that `--against` names does not take part. */
function prepareBefore() {
  if (against === null) return { drop: () => undefined }
  progress(`building ${against}`)
  try {
    const { folder, drop } = buildCommit(against)
    addBefore(folder)
    return { drop }
  } catch (error) {
    const absent = { database: 'all', contender: `before, ${against}`, reason: error.message }
    return { drop: () => undefined, absent }
  }
}

/** @returns what a script prints as JSON */
function part(script, flags = []) {
  const path = new URL(script, import.meta.url).pathname
  const child = spawn(process.execPath, [...flags, path, ...(isShort ? ['--short'] : [])], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let printed = ''
  child.stdout.on('data', (chunk) => {
    printed += chunk
  })
  return new Promise((resolve, reject) => {
    child.on('exit', (code) => {
      if (code === 0) resolve(JSON.parse(printed))
      else reject(new Error(`${script} ended with ${code}`))
    })
  })
}

/** Side by side: the one measures no time, and the other compares sizes in turn, one login after the other. */
async function memoryAndGrowth() {
  const [memory, growth] = await Promise.all([part('memory.mjs', ['--expose-gc']), part('growth.mjs')])
  return { memory, growth }
}

async function machine() {
  const [{ model }] = cpus()
  const memory = Math.round(totalmem() / 1024 ** 3)
  const pinned = pinnedTo.isPossible ? 'server and load pinned to cores of their own' : 'nothing pinned: no taskset'
  return `${cpus().length} × ${model.trim()}, ${memory} GiB; ${pinned}`
}

async function versions() {
  const { dependencies } = JSON.parse(readFileSync(new URL('package.json', import.meta.url)))
  const servers = await Promise.all(['postgres', 'mariadb'].map(serverVersion))
  const [postgres, mariadb] = servers.map((version) => version?.split(' (')[0] ?? null)
  return [
    `Node ${process.versions.node}`,
    postgres ?? 'no PostgreSQL',
    mariadb ? `MariaDB ${mariadb}` : 'no MariaDB',
    djangoVersions() ?? `no Django (apt-get install ${DJANGO_PACKAGES})`,
    ...(against ? [`before: ${against}`] : []),
    ...Object.entries(dependencies).map(([name, version]) => `${name} ${version}`),
  ].join('; ')
}
