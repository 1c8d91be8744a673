import { rooms } from './rooms.mjs'

/** The room of this run. What its tests find in the environment is set before they are read. */
export const name = process.env.ROOM ?? ''
export const room = rooms[name]
if (room === undefined) throw new Error(`ROOM is one of ${Object.keys(rooms).join(', ')}`)
Object.assign(process.env, room.environment)
