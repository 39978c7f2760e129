/** The microphone: samples for a WAV file, the level, and the running answer of the stream. */

import { address, protocols } from "./api.js";

const BEHIND = 2 ** 20; // bytes: a stream that lags this much is given up, the recording is not

/**
 * Start to record.
 *
 * hear.level(level 0..1, silent): about ten times a second. hear.answer(answer): the running answer.
 * hear.noStream(): there is none. Returns { seconds(), stop(name) -> Promise<File> }. Throws what getUserMedia throws.
 */
export async function record(hear) {
  const unprocessed = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const microphone = await navigator.mediaDevices.getUserMedia({ audio: unprocessed });
  const context = new AudioContext();
  const rate = context.sampleRate;
  await context.audioWorklet.addModule(new URL("worklet.js", import.meta.url));
  const node = new AudioWorkletNode(context, "microphone", { numberOfOutputs: 0 });
  const stream = open(rate, hear);
  const blocks = [];
  let count = 0;
  let finished;
  const whole = new Promise((resolve) => (finished = resolve));
  node.port.onmessage = ({ data }) => {
    if (data === null) return finished();
    const samples = pcm16(data);
    blocks.push(samples);
    count += samples.length;
    stream.send(samples);
    hear.level(level(data), data.every((value) => value === 0));
  };
  context.createMediaStreamSource(microphone).connect(node);
  await context.resume();
  return {
    seconds: () => count / rate,
    async stop(name) {
      node.port.postMessage("end");
      await whole;
      stream.end();
      for (const track of microphone.getTracks()) track.stop();
      await context.close();
      return new File([header(count, rate), ...blocks], name, { type: "audio/wav" });
    },
  };
}

/** The stream to the service, which may fail without harm. */
function open(rate, hear) {
  const socket = new WebSocket(address(`v1/stream?format=pcm16&rate=${rate}`, "ws"), protocols());
  const waiting = [];
  let over = false; // no more running answers are wanted
  socket.onopen = () => waiting.splice(0).forEach((samples) => socket.send(samples));
  socket.onmessage = ({ data }) => {
    if (!over) hear.answer(JSON.parse(data));
  };
  socket.onclose = () => {
    if (!over) hear.noStream();
  };
  return {
    send(samples) {
      if (socket.readyState === WebSocket.CONNECTING) waiting.push(samples);
      else if (socket.bufferedAmount > BEHIND) socket.close();
      else if (socket.readyState === WebSocket.OPEN) socket.send(samples);
    },
    end() {
      over = true;
      socket.close(); // the last answer is that to the whole recording, with its timeline
    },
  };
}

/** Samples of -1..1 as 16-bit integers, little-endian as on every machine with a browser. */
const pcm16 = (samples) => Int16Array.from(samples, (value) => Math.max(-1, Math.min(1, value)) * 32767);

/** How loud, 0..1: from -60 dB to 0 dB of full scale. */
function level(samples) {
  const power = samples.reduce((sum, value) => sum + value * value, 0) / Math.max(samples.length, 1);
  return Math.max(0, Math.min(1, 1 + (10 * Math.log10(power + 1e-12)) / 60));
}

/** The header of a mono 16-bit WAV file of so many samples. */
function header(count, rate) {
  const view = new DataView(new ArrayBuffer(44));
  const text = (at, letters) => [...letters].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  const long = (at, value) => view.setUint32(at, value, true);
  const short = (at, value) => view.setUint16(at, value, true);
  text(0, "RIFF"), long(4, 36 + 2 * count), text(8, "WAVEfmt "), long(16, 16), short(20, 1), short(22, 1);
  long(24, rate), long(28, 2 * rate), short(32, 2), short(34, 16), text(36, "data"), long(40, 2 * count);
  return view;
}
