import type { File, Test } from '@vitest/runner'
import { defineConfig } from 'vitest/config'
import { BaseSequencer, type Reporter, type TestSpecification } from 'vitest/node'
import base from '../../vitest.config.ts'
import { room } from './room.mjs'

/** A file that a mutant keeps from being read has no tests, and Stryker would see nothing fail: here it has one. */
const unreadFiles: Reporter = {
  onTestModuleEnd(module) {
    const errors = module.errors()
    const { task: file } = module as unknown as { task: File }
    if (errors.length === 0 || file.tasks.length > 0) return
    file.tasks.push({ type: 'test', mode: 'run', name: 'is read', file, result: { state: 'fail', errors } } as Test)
  },
}

/** In the order of the room's list: the quick ones first, because the first failure ends the run of a mutant. */
class InOrder extends BaseSequencer {
  override async sort(files: TestSpecification[]) {
    const place = ({ moduleId }: TestSpecification) => {
      const index = room.tests.findIndex((test: string) => moduleId.endsWith(test))
      return index === -1 ? room.tests.length : index
    }
    return files.toSorted((a, b) => place(a) - place(b))
  }
}

export default defineConfig({
  ...base,
  test: {
    ...base.test,
    include: room.tests,
    // One worker after the other, each for one run: the modules are read once in it, with the mutant in place.
    maxWorkers: 1,
    isolate: false,
    reporters: [unreadFiles],
    sequence: { sequencer: InOrder },
    coverage: { enabled: false },
  },
})
