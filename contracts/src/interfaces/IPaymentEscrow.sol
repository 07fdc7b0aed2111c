// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The vault: payers' deposits, what they have reserved for gateways, gateways' bonds, and what Settlement has earned for others
/// @notice A payer lets a gateway spend up to a limit a period. What the period may cost is reserved when it begins, out of reach of withdrawals
/// and of other gateways. A gateway's bond, allocated to providers, covers what the payer's money does not.
/// @dev Assumptions: `thawPeriod` is longer than the longest lag between a voucher and its redemption, so nothing outruns a redemption. Redeemed
/// money stays here, under Settlement's name, until it is paid: FUNC moves once. Amounts fit 88 bits: three hundred million FUNC.
interface IPaymentEscrow {
    /// @param balance neither reserved for a gateway nor paid out
    struct Deposit {
        uint96 balance;
        uint96 thawing;
        uint64 thawedAt;
    }

    /// @param reserved set aside for the gateway in this period
    /// @param room what the period may still cost beyond that, should the deposit grow
    /// @param periodEnd when the next period's reserve is taken
    /// @param endsAt from when nothing can be debited: a thaw after expiry or revocation
    /// @param listVersion counts the model lists that this limit has had; the list of the newest counts
    struct Limit {
        uint88 reserved;
        uint88 room;
        uint32 periodEnd;
        uint40 endsAt;
        bool anyModel;
        uint88 amountPerPeriod;
        uint32 period;
        uint40 expiry;
        uint40 revokedAt;
        uint32 listVersion;
    }

    /// @param required whether the gateway spends only what the payer has signed for, request by request
    /// @param cumulative the greatest total that was shown here with the payer's signature
    /// @param taken of that
    struct Authorisation {
        bool required;
        uint96 cumulative;
        uint96 taken;
    }

    struct Bond {
        uint96 balance;
        uint96 allocated;
        uint96 thawing;
        uint64 thawedAt;
    }

    /// @notice A deposit and a limit in one call, with a permit.
    struct Onboarding {
        uint128 amount;
        address gateway;
        uint128 amountPerPeriod;
        uint64 period;
        uint64 expiry;
        bytes32[] models;
        uint256 deadline;
        uint8 v;
        bytes32 r;
        bytes32 s;
    }

    error ZeroAmount();
    error NotAllowed(address caller);
    error InsufficientBalance(uint256 has, uint256 needs);
    error StillThawing(uint64 until);
    error BadLimit();
    error NoLimit(address payer, address gateway);
    error BadAuthorisation();

    event Deposited(uint64 sequence, address indexed payer, address indexed from, uint256 amount, uint256 balance);
    event ThawStarted(uint64 sequence, address indexed payer, uint256 amount, uint64 thawedAt);
    event Withdrawn(uint64 sequence, address indexed payer, uint256 amount, uint256 balance);
    event LimitSet(
        uint64 sequence,
        address indexed payer,
        address indexed gateway,
        uint128 amountPerPeriod,
        uint64 period,
        uint64 expiry,
        bytes32[] models,
        uint256 reserved,
        uint256 balance
    );
    event LimitRevoked(uint64 sequence, address indexed payer, address indexed gateway, uint64 endsAt);
    event ReserveTaken(uint64 sequence, address indexed payer, address indexed gateway, uint256 reserved, uint256 balance);
    event SignaturesRequired(uint64 sequence, address indexed payer, address indexed gateway, bool required);
    event Authorised(uint64 sequence, address indexed payer, address indexed gateway, uint256 cumulative);
    event BondAdded(uint64 sequence, address indexed gateway, uint256 amount, uint256 balance);
    event BondThawStarted(uint64 sequence, address indexed gateway, uint256 amount, uint64 thawedAt);
    event BondWithdrawn(uint64 sequence, address indexed gateway, uint256 amount, uint256 balance);
    event BondAllocated(uint64 sequence, address indexed gateway, address indexed provider, uint256 amount, uint256 allocated);
    event BondDebited(uint64 sequence, address indexed gateway, address indexed provider, uint256 amount, uint256 balance);
    event Refunded(uint64 sequence, address indexed payer, uint256 amount, uint256 balance);
    event Paid(uint64 sequence, address indexed to, uint256 amount);

    /// @notice Adds to `payer`'s balance from the caller's tokens.
    function deposit(address payer, uint128 amount) external;

    /// @notice Like `deposit` for the caller, after an ERC-2612 permit.
    function depositWithPermit(uint128 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external;

    /// @notice Deposits for the caller, after an ERC-2612 permit, and sets its limit for a gateway: all a new payer needs.
    function onboard(Onboarding calldata o) external;

    /// @notice Starts a withdrawal; until it is taken the amount can still be reserved. A new start replaces the old.
    function startWithdrawal(uint128 amount) external;

    /// @notice Pays out a thawed withdrawal, or what is left of it.
    function withdraw() external returns (uint256 amount);

    /// @notice Lets `gateway` spend `amountPerPeriod` in each `period` until `expiry`, on the given models or, with an empty list, on any. While a
    /// limit holds it can be raised, prolonged and widened; to lower it, revoke it and wait.
    function setLimit(address gateway, uint128 amountPerPeriod, uint64 period, uint64 expiry, bytes32[] calldata models) external;

    /// @notice Whether within the caller's limit `gateway` may spend only what the caller signs for, one request after another. To be required before
    /// a limit is set: while one holds it would outrun vouchers already signed.
    function requireSignatures(address gateway, bool required) external;

    /// @notice Shows that `payer` signed for `gateway` to spend `cumulative` in all, at the latest for the request of that hash. Less than was shown
    /// before changes nothing. Anybody may.
    function authorise(address payer, address gateway, uint128 cumulative, bytes32 requestHash, bytes calldata signature) external;

    /// @notice Ends the caller's limit a thaw from now; until then vouchers can be redeemed within it.
    function revokeLimit(address gateway) external;

    /// @notice Returns what is reserved under a limit that has ended to the caller's balance.
    function reclaim(address gateway) external;

    function addBond(address gateway, uint128 amount) external;

    function startBondWithdrawal(uint128 amount) external;

    function withdrawBond() external returns (uint256 amount);

    /// @notice Sets how much of the caller's bond stands for `provider`. The sum never exceeds the bond that is not thawing. Lowering it thaws.
    function allocate(address provider, uint128 amount) external;

    /// @notice Takes up to `amount`: from the payer within its limit, and what is missing from the gateway's allocation. What is taken belongs to
    /// Settlement from here. Settlement only.
    function debit(address payer, address gateway, address provider, bytes32 modelId, uint96 amount) external returns (uint96 taken);

    /// @notice Gives a payer back what Settlement holds. Settlement only.
    function creditRefund(address payer, uint96 amount) external;

    /// @notice Pays out what Settlement holds. Settlement only.
    function pay(address to, uint96 amount) external;

    /// @notice Burns what Settlement holds. Settlement only.
    function burn(uint96 amount) external;

    /// @notice What a debit would take now: of the payer's money within its limit, and of the gateway's allocation to the provider.
    function available(address payer, address gateway, address provider, bytes32 modelId)
        external
        view
        returns (uint256 fromPayer, uint256 fromBond);

    /// @notice The same, were an authorisation of so much shown first.
    function availableWith(address payer, address gateway, address provider, bytes32 modelId, uint128 cumulative)
        external
        view
        returns (uint256 fromPayer, uint256 fromBond);

    function authorisationOf(address payer, address gateway) external view returns (Authorisation memory);

    function depositOf(address payer) external view returns (Deposit memory);

    function limitOf(address payer, address gateway) external view returns (Limit memory);

    function bondOf(address gateway) external view returns (Bond memory);

    function allocationOf(address gateway, address provider) external view returns (uint96);
}
