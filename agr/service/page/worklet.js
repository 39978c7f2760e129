/** In the audio thread: hands the microphone's samples on, about ten times a second. */

class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.samples = new Float32Array(Math.round(sampleRate / 10));
    this.count = 0;
    this.port.onmessage = () => {
      this.flush(); // what is left
      this.port.postMessage(null);
    };
  }

  process([[channel]]) {
    for (const value of channel ?? []) {
      this.samples[this.count] = value;
      this.count += 1;
      if (this.count === this.samples.length) this.flush();
    }
    return true;
  }

  flush() {
    this.port.postMessage(this.samples.slice(0, this.count));
    this.count = 0;
  }
}

registerProcessor("microphone", Microphone);
