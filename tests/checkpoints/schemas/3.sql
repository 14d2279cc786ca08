CREATE TABLE rowtrail_ledger (
	id TEXT NOT NULL, 
	pipeline TEXT NOT NULL, 
	created_at BIGINT NOT NULL, 
	last_decision BIGINT NOT NULL, 
	PRIMARY KEY (id)
);

CREATE TABLE schema_versions (
	version INTEGER NOT NULL, 
	applied_at BIGINT NOT NULL, 
	PRIMARY KEY (version)
);

CREATE TABLE runs (
	number INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	state TEXT NOT NULL, 
	started_at BIGINT NOT NULL, 
	ended_at BIGINT, 
	message TEXT, 
	PRIMARY KEY (number), 
	UNIQUE (id)
);

CREATE TABLE streams (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	capture TEXT NOT NULL, 
	target TEXT NOT NULL, 
	epoch BIGINT NOT NULL, 
	position TEXT, 
	read_number BIGINT NOT NULL, 
	sequence BIGINT NOT NULL, 
	last_batch_id TEXT, 
	state TEXT NOT NULL, 
	state_reason TEXT, 
	watermark BIGINT, 
	updated_at BIGINT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (name)
);

CREATE TABLE key_layouts (
	id INTEGER NOT NULL, 
	layout BLOB NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (layout)
);

CREATE TABLE lease (
	one INTEGER NOT NULL, 
	generation BIGINT NOT NULL, 
	holder TEXT NOT NULL, 
	process TEXT, 
	acquired_at BIGINT NOT NULL, 
	expires_at BIGINT NOT NULL, 
	released BOOLEAN NOT NULL, 
	PRIMARY KEY (one)
);

CREATE TABLE batches (
	id INTEGER NOT NULL, 
	batch_id TEXT NOT NULL, 
	run_id TEXT NOT NULL, 
	stream_id INTEGER NOT NULL, 
	kind TEXT NOT NULL, 
	state TEXT NOT NULL, 
	sequence BIGINT NOT NULL, 
	epoch BIGINT NOT NULL, 
	opened_at BIGINT NOT NULL, 
	prepared_at BIGINT, 
	closed_at BIGINT, 
	position_after TEXT, 
	watermark BIGINT, 
	read_complete BOOLEAN NOT NULL, 
	manifest_digest TEXT, 
	records BIGINT NOT NULL, 
	failed BIGINT NOT NULL, 
	ended BIGINT NOT NULL, 
	has_page BOOLEAN NOT NULL, 
	load_rows BLOB, 
	PRIMARY KEY (id), 
	UNIQUE (batch_id), 
	FOREIGN KEY(run_id) REFERENCES runs (id), 
	FOREIGN KEY(stream_id) REFERENCES streams (id)
);

CREATE UNIQUE INDEX one_unfinished_batch_per_stream ON batches (stream_id) WHERE state IN ('open', 'prepared');

CREATE INDEX batches_by_stream ON batches (stream_id, id);

CREATE TABLE decisions (
	id BIGINT NOT NULL, 
	kind TEXT NOT NULL, 
	state TEXT NOT NULL, 
	stream_id INTEGER NOT NULL, 
	from_stage TEXT, 
	actor TEXT NOT NULL, 
	reason TEXT, 
	created_at BIGINT NOT NULL, 
	finished_at BIGINT, 
	result TEXT, 
	failure_group TEXT, 
	origin TEXT, 
	of_run TEXT, 
	since BIGINT, 
	until BIGINT, 
	condition TEXT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(stream_id) REFERENCES streams (id)
);

CREATE INDEX decisions_by_state ON decisions (state);

CREATE TABLE pruned (
	what TEXT NOT NULL, 
	stream_id INTEGER NOT NULL, 
	upto BIGINT, 
	at BIGINT, 
	looked_at BIGINT NOT NULL, 
	PRIMARY KEY (what, stream_id), 
	FOREIGN KEY(stream_id) REFERENCES streams (id)
);

CREATE TABLE outcomes (
	batch INTEGER NOT NULL, 
	stream_id INTEGER NOT NULL, 
	layout_id INTEGER NOT NULL, 
	first_place BIGINT NOT NULL, 
	last_place BIGINT NOT NULL, 
	header BLOB NOT NULL, 
	superseded BLOB, 
	PRIMARY KEY (batch), 
	FOREIGN KEY(batch) REFERENCES batches (id), 
	FOREIGN KEY(stream_id) REFERENCES streams (id), 
	FOREIGN KEY(layout_id) REFERENCES key_layouts (id)
);

CREATE INDEX outcomes_by_place ON outcomes (stream_id, layout_id, first_place, last_place);

CREATE TABLE pages (
	batch INTEGER NOT NULL, 
	stream_id INTEGER NOT NULL, 
	state TEXT NOT NULL, 
	body BLOB NOT NULL, 
	PRIMARY KEY (batch), 
	FOREIGN KEY(batch) REFERENCES batches (id), 
	FOREIGN KEY(stream_id) REFERENCES streams (id)
);

CREATE INDEX pages_by_stream ON pages (stream_id, state, batch);

CREATE TABLE prepared_failures (
	batch INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	"key" BLOB NOT NULL, 
	key_text TEXT NOT NULL, 
	epoch BIGINT NOT NULL, 
	position BIGINT NOT NULL, 
	ordinal BIGINT NOT NULL, 
	revision BIGINT NOT NULL, 
	state TEXT NOT NULL, 
	operation INTEGER NOT NULL, 
	stage TEXT NOT NULL, 
	error_class TEXT NOT NULL, 
	message TEXT NOT NULL, 
	fingerprint TEXT NOT NULL, 
	code_fingerprint TEXT, 
	waits_for TEXT, 
	image_note TEXT, 
	happened_at BIGINT, 
	committed BOOLEAN, 
	extracted BLOB, 
	transformed BLOB, 
	PRIMARY KEY (batch, number), 
	FOREIGN KEY(batch) REFERENCES batches (id)
);

CREATE INDEX prepared_failures_by_key ON prepared_failures (batch, "key");

CREATE TABLE prepared_ends (
	batch INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	failure_id BIGINT NOT NULL, 
	state TEXT NOT NULL, 
	decision_id BIGINT, 
	PRIMARY KEY (batch, number), 
	FOREIGN KEY(batch) REFERENCES batches (id)
);

CREATE TABLE failures (
	id INTEGER NOT NULL, 
	stream_id INTEGER NOT NULL, 
	"key" BLOB NOT NULL, 
	key_text TEXT NOT NULL, 
	epoch BIGINT NOT NULL, 
	position BIGINT NOT NULL, 
	ordinal BIGINT NOT NULL, 
	revision BIGINT NOT NULL, 
	state TEXT NOT NULL, 
	operation INTEGER NOT NULL, 
	stage TEXT NOT NULL, 
	error_class TEXT NOT NULL, 
	message TEXT NOT NULL, 
	fingerprint TEXT NOT NULL, 
	code_fingerprint TEXT, 
	waits_for TEXT, 
	attempts INTEGER NOT NULL, 
	first_at BIGINT NOT NULL, 
	last_at BIGINT NOT NULL, 
	run_id TEXT NOT NULL, 
	batch INTEGER, 
	ended_at BIGINT, 
	ended_batch INTEGER, 
	ended_decision BIGINT, 
	image_note TEXT, 
	happened_at BIGINT, 
	committed BOOLEAN, 
	extracted BLOB, 
	transformed BLOB, 
	PRIMARY KEY (id), 
	FOREIGN KEY(stream_id) REFERENCES streams (id), 
	FOREIGN KEY(run_id) REFERENCES runs (id), 
	FOREIGN KEY(batch) REFERENCES batches (id), 
	FOREIGN KEY(ended_batch) REFERENCES batches (id)
);

CREATE INDEX failures_by_key ON failures (stream_id, "key");

CREATE UNIQUE INDEX one_held_back_per_version ON failures (stream_id, "key", epoch, position, ordinal, revision) WHERE ended_at IS NULL;

CREATE TABLE decision_records (
	decision_id BIGINT NOT NULL, 
	number INTEGER NOT NULL, 
	stream_id INTEGER NOT NULL, 
	"key" BLOB NOT NULL, 
	key_text TEXT NOT NULL, 
	PRIMARY KEY (decision_id, number), 
	FOREIGN KEY(decision_id) REFERENCES decisions (id), 
	FOREIGN KEY(stream_id) REFERENCES streams (id)
);

CREATE INDEX decision_records_by_key ON decision_records (stream_id, "key");

CREATE TABLE outcome_segments (
	batch INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	body BLOB NOT NULL, 
	PRIMARY KEY (batch, number), 
	FOREIGN KEY(batch) REFERENCES outcomes (batch)
);

CREATE TABLE attempts (
	failure_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	at BIGINT NOT NULL, 
	run_id TEXT NOT NULL, 
	batch BIGINT, 
	state TEXT NOT NULL, 
	stage TEXT NOT NULL, 
	error_class TEXT NOT NULL, 
	message TEXT NOT NULL, 
	PRIMARY KEY (failure_id, number), 
	FOREIGN KEY(failure_id) REFERENCES failures (id)
);
