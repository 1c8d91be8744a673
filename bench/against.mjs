/** An earlier commit of this repository, built in a temporary folder with the dependencies that are installed here. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))

/** @throws Error when git does not know the commit, or it does not build */
export function buildCommit(ref) {
  const folder = mkdtempSync(join(tmpdir(), 'totp-kit-before-'))
  const drop = () => rmSync(folder, { recursive: true, force: true })
  const run = (command) => {
    const { status, stderr } = spawnSync('sh', ['-c', command], { cwd: folder, encoding: 'utf8' })
    if (status === 0) return
    drop()
    throw new Error(`${command}: ${stderr.trim().split('\n')[0]}`)
  }
  run(`git -C '${root}' archive -o '${folder}/all.tar' '${ref}' && tar -xf all.tar && rm all.tar`)
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'))
  symlinkSync(join(root, 'bench/node_modules'), join(folder, 'bench/node_modules'))
  run('npx tsdown')
  return { folder, drop }
}
