import { crc32, deflateRawSync } from "node:zlib";

export interface Member {
  readonly name: string;
  readonly data?: string;
  /** Unix mode with its file type. */
  readonly mode?: number;
  readonly flags?: number;
  /** What the headers say, where they lie. */
  readonly size?: number;
}

/** A ZIP (APPNOTE 4.3) of these members, however hostile. */
export function zip(members: readonly Member[]): Buffer {
  const local: Buffer[] = [];
  const central: Buffer[] = [];
  let offset = 0;
  for (const { name, data = "", mode = 0o100644, flags = 0x800, size } of members) {
    const raw = Buffer.from(data);
    const body = deflateRawSync(raw);
    const encoded = Buffer.from(name);
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(flags, 2);
    common.writeUInt16LE(8, 4);
    common.writeUInt32LE(crc32(raw), 10);
    common.writeUInt32LE(body.length, 14);
    common.writeUInt32LE(size ?? raw.length, 18);
    common.writeUInt16LE(encoded.length, 22);
    const entry = Buffer.concat([Buffer.from("PK\x03\x04"), common, encoded, body]);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE((mode << 16) >>> 0, 6);
    tail.writeUInt32LE(offset, 10);
    central.push(Buffer.concat([Buffer.from("PK\x01\x02"), Buffer.from([20, 3]), common, tail, encoded]));
    local.push(entry);
    offset += entry.length;
  }
  const directory = Buffer.concat(central);
  const end = Buffer.alloc(18);
  end.writeUInt16LE(members.length, 4);
  end.writeUInt16LE(members.length, 6);
  end.writeUInt32LE(directory.length, 8);
  end.writeUInt32LE(offset, 12);
  return Buffer.concat([...local, directory, Buffer.from("PK\x05\x06"), end]);
}

