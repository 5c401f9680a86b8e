"""What the Python receivers share: a server that gives the raw request to `judge`, which says what to answer."""

import http.server


def serve(judge):
    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            status = judge(self.headers, self.rfile.read(int(self.headers["content-length"])))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    print("listening on", server.server_port, flush=True)
    server.serve_forever()
