-- No foreign keys are enforced, as in most SQLite files: what a shop deletes may leave references.
CREATE TABLE customers (
    customer_id INTEGER PRIMARY KEY,
    email VARCHAR(254),
    name TEXT NOT NULL,
    marketing BOOLEAN,
    loyalty_points INTEGER NOT NULL,
    created_at TIMESTAMP NOT NULL
);
CREATE TABLE products (
    sku TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    price DECIMAL(10,2) NOT NULL,
    weight REAL,
    thumbnail BLOB
);
CREATE TABLE orders (
    order_id INTEGER PRIMARY KEY,
    customer_id INTEGER,
    status VARCHAR(10) NOT NULL,
    currency VARCHAR(3) NOT NULL,
    total DECIMAL(10,2) NOT NULL,
    ordered_on DATE NOT NULL,
    updated_at TIMESTAMP NOT NULL,
    note TEXT
);
CREATE TABLE order_lines (
    order_id INTEGER NOT NULL,
    line_no INTEGER NOT NULL,
    sku TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    unit_price DECIMAL(10,2) NOT NULL,
    PRIMARY KEY (order_id, line_no)
) WITHOUT ROWID;
CREATE TABLE payments (
    payment_id TEXT NOT NULL PRIMARY KEY,
    order_id INTEGER NOT NULL,
    method VARCHAR(10) NOT NULL,
    amount DECIMAL(10,2) NOT NULL,
    paid_at TIMESTAMP,
    updated_at TIMESTAMP NOT NULL
);
