# make run    set up and open the app          make test   set up and pass every test
# make lint   ruff and mypy                    make bench  the benchmarks against their peers
# make record the first screens, anew          make clean  forget the environment
# make pictures  the README's pictures, anew

PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test lint bench record pictures clean chromium

run: .venv/run.stamp
	$(BIN)/python -m rag_inspect serve

test: .venv/dev.stamp chromium
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/run.stamp
	for name in startup rerank eval; do echo "== $$name"; $(BIN)/python -m benchmarks.$$name || exit 1; done

record: .venv/run.stamp
	$(BIN)/python -m rag_inspect.recording

pictures: .venv/dev.stamp chromium
	$(BIN)/python -m docs.take_pictures

.venv/run.stamp: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/dev.stamp: requirements.txt requirements-dev.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@ .venv/run.stamp

# The browser tests need a Chromium. As root on Debian it is installed; elsewhere a word says what to do.
chromium:
	@for name in chromium chromium-browser google-chrome google-chrome-stable; do command -v $$name >/dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update --quiet && apt-get install --yes --quiet --no-install-recommends chromium; \
	else \
		echo "The browser tests need Chromium: install it (Debian: sudo apt install chromium; macOS: brew install chromium),"; \
		echo "or point CHROMIUM at one. Until then they are skipped."; \
	fi

clean:
	rm -rf .venv
