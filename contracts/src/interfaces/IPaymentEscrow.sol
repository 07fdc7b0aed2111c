// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Payers' deposits and gateways' bonds
/// @notice A payer lets a gateway spend up to a limit a period. A gateway's bond, allocated to providers, covers what the payer's deposit does not.
/// @dev Assumptions: `thawPeriod` is longer than the longest lag between a voucher and its redemption, so nothing outruns a redemption.
interface IPaymentEscrow {
    struct Deposit {
        uint128 balance;
        uint128 thawing;
        uint64 thawedAt;
    }

    /// @param revokedAt zero, or when the payer revoked; the limit still holds for `thawPeriod` from then
    /// @param listVersion counts the model lists that this limit has had; the list of the newest counts
    struct Limit {
        uint128 amountPerPeriod;
        uint128 spentInPeriod;
        uint64 period;
        uint64 periodStart;
        uint64 expiry;
        uint64 revokedAt;
        uint64 listVersion;
        bool anyModel;
    }

    struct Bond {
        uint128 balance;
        uint128 allocated;
        uint128 thawing;
        uint64 thawedAt;
    }

    error ZeroAmount();
    error InsufficientBalance(uint256 has, uint256 needs);
    error StillThawing(uint64 until);
    error BadLimit();
    error NoLimit(address payer, address gateway);

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
        bytes32[] models
    );
    event LimitRevoked(uint64 sequence, address indexed payer, address indexed gateway, uint64 endsAt);
    event BondAdded(uint64 sequence, address indexed gateway, uint256 amount, uint256 balance);
    event BondThawStarted(uint64 sequence, address indexed gateway, uint256 amount, uint64 thawedAt);
    event BondWithdrawn(uint64 sequence, address indexed gateway, uint256 amount, uint256 balance);
    event BondAllocated(uint64 sequence, address indexed gateway, address indexed provider, uint256 amount, uint256 allocated);
    event Debited(
        uint64 sequence,
        address indexed payer,
        address indexed gateway,
        address indexed provider,
        bytes32 modelId,
        uint256 fromPayer,
        uint256 fromBond,
        uint256 balance
    );
    event Refunded(uint64 sequence, address indexed payer, uint256 amount, uint256 balance);

    /// @notice Adds to `payer`'s balance from the caller's tokens.
    function deposit(address payer, uint128 amount) external;

    /// @notice Like `deposit` for the caller, after an ERC-2612 permit.
    function depositWithPermit(uint128 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external;

    /// @notice Starts a withdrawal; until it is taken the amount can still be debited. A new start replaces the old.
    function startWithdrawal(uint128 amount) external;

    /// @notice Pays out a thawed withdrawal, or what is left of it.
    function withdraw() external returns (uint256 amount);

    /// @notice Lets `gateway` spend `amountPerPeriod` in each `period` until `expiry`, on the given models or, with an empty list, on any.
    function setLimit(address gateway, uint128 amountPerPeriod, uint64 period, uint64 expiry, bytes32[] calldata models) external;

    function revokeLimit(address gateway) external;

    function addBond(address gateway, uint128 amount) external;

    function startBondWithdrawal(uint128 amount) external;

    function withdrawBond() external returns (uint256 amount);

    /// @notice Sets how much of the caller's bond stands for `provider`. The sum never exceeds the bond that is not thawing. Lowering it thaws.
    function allocate(address provider, uint128 amount) external;

    /// @notice Takes up to `amount`: from the payer within its limit, and what is missing from the gateway's allocation. Settlement only.
    function debit(address payer, address gateway, address provider, bytes32 modelId, uint128 amount)
        external
        returns (uint128 fromPayer, uint128 fromBond);

    /// @notice Credits a refund that the caller has just transferred. Settlement only.
    function creditRefund(address payer, uint128 amount) external;

    /// @notice What a debit would take now: of the payer's deposit within its limit, and of the gateway's allocation to the provider.
    function available(address payer, address gateway, address provider, bytes32 modelId)
        external
        view
        returns (uint256 fromPayer, uint256 fromBond);

    function depositOf(address payer) external view returns (Deposit memory);

    function limitOf(address payer, address gateway) external view returns (Limit memory);

    function bondOf(address gateway) external view returns (Bond memory);

    function allocationOf(address gateway, address provider) external view returns (uint128);

    /// @notice What the contract owes, which must equal its token balance.
    function ledger() external view returns (uint256);
}
