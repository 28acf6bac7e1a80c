// The site's search runs in a worker, and browsers start none for pages that are opened from a disk. There, and only there,
// the worker's script runs in a hidden frame of the page instead. The theme would load such a script from elsewhere.
if (location.protocol === "file:") {
  class FrameWorker extends EventTarget {
    constructor(url) {
      super();
      this.waiting = []; // what was sent before the script was there
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.documentElement.append(frame);
      this.scope = frame.contentWindow;
      this.scope.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      this.scope.importScripts = async (...urls) => {
        for (const wanted of urls) await this.run(wanted);
      };
      this.run(url).then(() => this.deliver());
    }

    run(url) {
      return new Promise((done, failed) => {
        const script = this.scope.document.createElement("script");
        script.src = String(url);
        script.onload = done;
        script.onerror = failed;
        this.scope.document.documentElement.append(script);
      });
    }

    postMessage(data) {
      if (this.waiting) this.waiting.push(data);
      else this.send(data);
    }

    deliver() {
      const waiting = this.waiting;
      this.waiting = null;
      waiting.forEach((data) => this.send(data));
    }

    send(data) {
      this.scope.dispatchEvent(new MessageEvent("message", { data }));
    }
  }
  window.Worker = FrameWorker;
}
