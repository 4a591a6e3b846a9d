BEGIN TRANSACTION;
CREATE TABLE gpo_answers (
	run INTEGER NOT NULL, 
	request TEXT NOT NULL, 
	occurrence INTEGER NOT NULL, 
	text TEXT NOT NULL, 
	fate TEXT, 
	lm_calls INTEGER NOT NULL, 
	input_tokens INTEGER NOT NULL, 
	output_tokens INTEGER NOT NULL, 
	cost DOUBLE NOT NULL, 
	unpriced_calls INTEGER NOT NULL, 
	PRIMARY KEY (run, request, occurrence), 
	FOREIGN KEY(run) REFERENCES gpo_runs (id)
);
INSERT INTO "gpo_answers" VALUES(1,'request 1',0,'an answer',NULL,1,2,3,0.5,0);
INSERT INTO "gpo_answers" VALUES(1,'request 2',0,'an answer',NULL,1,2,3,0.5,0);
CREATE TABLE gpo_claims (
	"key" TEXT NOT NULL, 
	owner TEXT NOT NULL, 
	PRIMARY KEY ("key"), 
	FOREIGN KEY(owner) REFERENCES gpo_owners (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
CREATE TABLE gpo_embedders (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	dimension INTEGER NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (name)
);
INSERT INTO "gpo_embedders" VALUES(1,'ngrams',2);
CREATE TABLE gpo_evaluations (
	id INTEGER NOT NULL, 
	"key" TEXT NOT NULL, 
	scope INTEGER NOT NULL, 
	state INTEGER NOT NULL, 
	example INTEGER NOT NULL, 
	metric INTEGER NOT NULL, 
	score DOUBLE NOT NULL, 
	outcome TEXT NOT NULL, 
	feedback TEXT NOT NULL, 
	detail TEXT NOT NULL, 
	lm_calls INTEGER NOT NULL, 
	input_tokens INTEGER NOT NULL, 
	output_tokens INTEGER NOT NULL, 
	cost DOUBLE NOT NULL, 
	unpriced_calls INTEGER NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE ("key", scope)
);
INSERT INTO "gpo_evaluations" VALUES(1,'key 001',0,3,1,2,0.001,'SCORED','feedback 1','{"answer": 1}',1,100,10,0.001,0);
INSERT INTO "gpo_evaluations" VALUES(2,'key 002',0,5,4,2,0.002,'SCORED','feedback 2','{"answer": 2}',1,100,10,0.002,0);
CREATE TABLE gpo_links (
	run INTEGER NOT NULL, 
	evaluation INTEGER NOT NULL, 
	paid BOOLEAN NOT NULL, 
	PRIMARY KEY (run, evaluation), 
	FOREIGN KEY(run) REFERENCES gpo_runs (id), 
	FOREIGN KEY(evaluation) REFERENCES gpo_evaluations (id)
)
 WITHOUT ROWID

;
INSERT INTO "gpo_links" VALUES(1,1,1);
INSERT INTO "gpo_links" VALUES(1,2,1);
CREATE TABLE gpo_lm_calls (
	run INTEGER NOT NULL, 
	digest INTEGER NOT NULL, 
	role TEXT NOT NULL, 
	model TEXT NOT NULL, 
	input_tokens INTEGER NOT NULL, 
	output_tokens INTEGER NOT NULL, 
	cost DOUBLE, 
	at DOUBLE NOT NULL, 
	PRIMARY KEY (run, digest), 
	FOREIGN KEY(run) REFERENCES gpo_runs (id)
)
 WITHOUT ROWID

;
INSERT INTO "gpo_lm_calls" VALUES(1,-3914856362174045134,'prompt','solver',100,2,NULL,1002.0);
INSERT INTO "gpo_lm_calls" VALUES(1,-1216569931009615410,'prompt','solver',100,1,NULL,1001.0);
INSERT INTO "gpo_lm_calls" VALUES(1,7265233890305768455,'task','solver',100,1,NULL,1001.0);
INSERT INTO "gpo_lm_calls" VALUES(1,7767380079408250657,'task','solver',100,2,NULL,1002.0);
CREATE TABLE gpo_owners (
	id TEXT NOT NULL, 
	run INTEGER NOT NULL, 
	host TEXT NOT NULL, 
	pid INTEGER NOT NULL, 
	began DOUBLE NOT NULL, 
	beat DOUBLE NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(run) REFERENCES gpo_runs (id)
);
CREATE TABLE gpo_predictors (
	run INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	position INTEGER NOT NULL, 
	kind TEXT NOT NULL, 
	task TEXT NOT NULL, 
	model TEXT NOT NULL, 
	PRIMARY KEY (run, name), 
	FOREIGN KEY(run) REFERENCES gpo_runs (id)
);
INSERT INTO "gpo_predictors" VALUES(1,'answer',0,'ChainOfThought','question -> answer','solver');
INSERT INTO "gpo_predictors" VALUES(1,'rank',1,'Predict','items -> order','judge');
CREATE TABLE gpo_prompts (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	run INTEGER NOT NULL, 
	predictor TEXT NOT NULL, 
	text_hash TEXT NOT NULL, 
	text TEXT NOT NULL, 
	score DOUBLE NOT NULL, 
	evaluations INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	memory_hash TEXT NOT NULL, 
	memory_text TEXT NOT NULL, 
	created DOUBLE NOT NULL, 
	UNIQUE (run, predictor, text_hash), 
	FOREIGN KEY(run) REFERENCES gpo_runs (id)
);
INSERT INTO "gpo_prompts" VALUES(1,1,'answer','d497ecc67056611abd971efeb519c0b2','Think 1.',0.5,4,1,'bfde8311b4280a29698baef4a434e3cb','question -> answer: Think 1.',1.79519375472598671913e+09);
INSERT INTO "gpo_prompts" VALUES(2,1,'answer','056bb4102af31c391cdb01b342aeda1a','Think 2.',0.5,4,1,'ec9a226ca60c9d6cc3800be16e70237a','question -> answer: Think 2.',1.79519375473499894144e+09);
CREATE TABLE gpo_readings (
	run INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	value DOUBLE NOT NULL, 
	PRIMARY KEY (run, name), 
	FOREIGN KEY(run) REFERENCES gpo_runs (id)
)
 WITHOUT ROWID

;
INSERT INTO "gpo_readings" VALUES(1,'clock 1',1.5);
INSERT INTO "gpo_readings" VALUES(1,'clock 2',1.5);
CREATE TABLE gpo_run_details (
	run INTEGER NOT NULL, 
	fingerprints TEXT NOT NULL, 
	settings TEXT NOT NULL, 
	program TEXT NOT NULL, 
	prompt_model TEXT NOT NULL, 
	"plan" TEXT NOT NULL, 
	version TEXT NOT NULL, 
	result TEXT, 
	PRIMARY KEY (run), 
	FOREIGN KEY(run) REFERENCES gpo_runs (id)
);
INSERT INTO "gpo_run_details" VALUES(1,'{"metric": "m1", "data": "d1"}','{"seed": 0, "steps": [1, null, 2.5], "name": "gr\u00f6\u00dfer"}','Answers','writer','{"metric_calls": 100}','0.1.0','{"best": 1}');
CREATE TABLE gpo_run_texts (
	run INTEGER NOT NULL, 
	text INTEGER NOT NULL, 
	PRIMARY KEY (run, text), 
	FOREIGN KEY(run) REFERENCES gpo_runs (id), 
	FOREIGN KEY(text) REFERENCES gpo_texts (id)
)
 WITHOUT ROWID

;
INSERT INTO "gpo_run_texts" VALUES(1,1);
INSERT INTO "gpo_run_texts" VALUES(1,2);
INSERT INTO "gpo_run_texts" VALUES(1,3);
INSERT INTO "gpo_run_texts" VALUES(1,4);
INSERT INTO "gpo_run_texts" VALUES(1,5);
CREATE TABLE gpo_runs (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	identity TEXT NOT NULL, 
	study TEXT, 
	status TEXT NOT NULL, 
	owner TEXT, 
	created DOUBLE NOT NULL, 
	updated DOUBLE NOT NULL, 
	seconds DOUBLE NOT NULL, 
	best_score DOUBLE
);
INSERT INTO "gpo_runs" VALUES(1,'identity',NULL,'FINISHED',NULL,1.79519375470900821685e+09,1.7951937547399878502e+09,2.0,0.2);
CREATE TABLE gpo_steps (
	run INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	record TEXT NOT NULL, 
	PRIMARY KEY (run, number), 
	FOREIGN KEY(run) REFERENCES gpo_runs (id)
);
INSERT INTO "gpo_steps" VALUES(1,1,'{"step": 1}');
INSERT INTO "gpo_steps" VALUES(1,2,'{"step": 2}');
CREATE TABLE gpo_texts (
	id INTEGER NOT NULL, 
	hash TEXT NOT NULL, 
	text TEXT, 
	PRIMARY KEY (id), 
	UNIQUE (hash)
);
INSERT INTO "gpo_texts" VALUES(1,'example 1','{"example": 1}');
INSERT INTO "gpo_texts" VALUES(2,'metric',NULL);
INSERT INTO "gpo_texts" VALUES(3,'state 1','{"state": 1}');
INSERT INTO "gpo_texts" VALUES(4,'example 2','{"example": 2}');
INSERT INTO "gpo_texts" VALUES(5,'state 2','{"state": 2}');
CREATE TABLE gpo_vectors (
	embedder INTEGER NOT NULL, 
	text_hash TEXT NOT NULL, 
	run INTEGER NOT NULL, 
	vector BLOB NOT NULL, 
	PRIMARY KEY (embedder, text_hash), 
	FOREIGN KEY(embedder) REFERENCES gpo_embedders (id)
);
INSERT INTO "gpo_vectors" VALUES(1,'bfde8311b4280a29698baef4a434e3cb',1,X'0000803F0000803F2D');
INSERT INTO "gpo_vectors" VALUES(1,'ec9a226ca60c9d6cc3800be16e70237a',1,X'000000400000803F2D');
CREATE TABLE gpo_version (
	version INTEGER NOT NULL
);
INSERT INTO "gpo_version" VALUES(1);
CREATE INDEX ix_gpo_runs_study ON gpo_runs (study);
CREATE INDEX ix_gpo_runs_identity ON gpo_runs (identity);
CREATE INDEX ix_gpo_owners_run ON gpo_owners (run);
CREATE INDEX gpo_run_texts_text ON gpo_run_texts (text);
CREATE INDEX gpo_links_evaluation ON gpo_links (evaluation);
CREATE INDEX ix_gpo_prompts_memory_hash ON gpo_prompts (memory_hash);
CREATE INDEX ix_gpo_vectors_run ON gpo_vectors (run);
CREATE INDEX ix_gpo_claims_owner ON gpo_claims (owner);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('gpo_runs',1);
INSERT INTO "sqlite_sequence" VALUES('gpo_prompts',2);
COMMIT;
